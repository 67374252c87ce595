//! What is wrong with what the operator wrote: where, what, and how to mend it. All of it at once.

use std::cell::RefCell;
use std::fmt;

/// How bad a problem is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// The edge does not start.
    Error,
    /// The edge starts, but something will not work as it seems meant.
    Warning,
    /// Worth knowing.
    Note,
}

/// One problem.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The file, as reached from where the program runs.
    pub file: String,
    /// Line, from 1; 0 = the file as a whole.
    pub line: usize,
    /// Column in characters, from 1; 0 = the file as a whole.
    pub column: usize,
    /// Key path (`partner[2].tls`); empty = the file as a whole.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub mend: String,
}

/// The problems found so far.
#[derive(Debug, Default)]
pub struct Problems(RefCell<Vec<Problem>>);

impl Severity {
    /// The word that stands before the problem.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

impl Problems {
    /// Takes one in.
    pub fn add(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }
    /// How many errors there are.
    pub fn errors(&self) -> usize {
        self.0.borrow().iter().filter(|problem| problem.severity == Severity::Error).count()
    }
    /// In the order of files and lines, each once.
    pub fn into_sorted(self) -> Vec<Problem> {
        let mut all = self.0.into_inner();
        all.sort_by(|a, b| (&a.file, a.line, a.column, a.severity).cmp(&(&b.file, b.line, b.column, b.severity)));
        all.dedup();
        all
    }
}

impl fmt::Display for Problem {
    /// `file:line:column: error: key: what; mend`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}: ", self.severity.as_str())?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)?;
        if !self.mend.is_empty() {
            write!(f, "; {}", self.mend)?;
        }
        Ok(())
    }
}
