//! What crosses the border in whose words: their dialect to ours on the way in, nothing of the inside on the way out.

pub mod aol;
pub mod inward;
pub mod leak;
pub mod mask;
pub mod media;
pub mod place;
mod siv;
pub mod topology;

use crate::gate::settings::Settings;

/// What stands at the border: made once of the settings.
#[derive(Debug)]
pub struct Border {
    /// What of the inside is not to be named.
    pub inside: leak::Inside,
    /// What is named in its stead.
    pub masks: mask::Masks,
    /// Where we are beside each node, in the settings' order.
    pub places: Vec<place::Place>,
}

impl Border {
    /// Of the settings in force.
    pub fn of(settings: &Settings) -> Self {
        Self {
            inside: leak::Inside::of(settings),
            masks: mask::Masks::of(&settings.secrets),
            places: place::Place::all(settings),
        }
    }
}
