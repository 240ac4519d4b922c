//! Why a call has failed: a number for programs, a line for people.

use naive_ptq::Error;

/// As `naive_ptq_status` in the header.
#[allow(missing_docs)] // the header says it
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok = 0,
    Io = 1,
    Invalid = 2,
    Unsupported = 3,
    Shape = 4,
    Range = 5,
    Argument = 6,
    Fault = 7,
}

/// What went wrong.
#[derive(Debug)]
pub struct Failure {
    /// Its kind.
    pub status: Status,
    /// The same in words.
    pub text: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(status: Status, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(status(&error), error.to_string())
    }
}

fn status(error: &Error) -> Status {
    match error {
        Error::Io(_) => Status::Io,
        Error::Unsupported(_) => Status::Unsupported,
        Error::Shape(_) => Status::Shape,
        Error::Range(_) => Status::Range,
        Error::InNode { error, .. }
        | Error::InFile { error, .. }
        | Error::InSample { error, .. } => status(error),
        _ => Status::Invalid,
    }
}
