//! Where a fault was found: the texts of the URI and address parsers with the header's name before them. A person who reads a refusal
//! wants to know which of six addresses it means, and a [`Fault`] holds only static text.

use super::header::Name;
use super::message::Fault;

macro_rules! places {
    ($($what:literal,)*) => {
        /// The fault, with the header it is in; [`Name::Other`] is the Request-URI.
        pub(super) fn at(name: Name, fault: Fault) -> Fault {
            let Fault::Malformed(what) = fault else { return fault };
            Fault::Malformed(match (name, what) {
                $(
                    (Name::From, $what) => concat!("From: ", $what),
                    (Name::To, $what) => concat!("To: ", $what),
                    (Name::Contact, $what) => concat!("Contact: ", $what),
                    (Name::Route, $what) => concat!("Route: ", $what),
                    (Name::RecordRoute, $what) => concat!("Record-Route: ", $what),
                    (Name::Via, $what) => concat!("Via: ", $what),
                    (Name::Other, $what) => concat!("Request-URI: ", $what),
                )*
                _ => what,
            })
        }
    };
}

places! {
    "IPv6 address has no closing bracket",
    "URI ends in ?",
    "URI has an empty user before @",
    "URI has no scheme",
    "URI has parameters behind its headers",
    "URI holds more than one @",
    "URI holds white space, a control character, or one that must be escaped",
    "URI is a scheme alone",
    "URI parameters are not name or name=value",
    "URI password holds a character that must be escaped",
    "URI scheme is not a scheme",
    "URI user holds a character that must be escaped",
    "address ends in ;",
    "address has no closing angle bracket",
    "address parameters are not name or name=value",
    "address whose URI holds ? or a comma has no angle brackets",
    "display name has no closing quote",
    "display name is not followed by <",
    "display name without quotes holds a character that needs them",
    "host in brackets is not an IPv6 address",
    "host is empty",
    "host is neither a DNS name nor an IP address",
    "im or pres URI has no user",
    "port is not a number from 1 to 65535",
    "something follows the IPv6 address that is not a port",
    "something follows the address that is not a parameter",
    "tel URI holds no number",
}
