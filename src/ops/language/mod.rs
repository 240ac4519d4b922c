//! What an operator says to the languages it is deployed in: the code, in a file of its own, and the constants
//! of a node, as data. Who prints them lies above, in [`emit`](crate::emit).

pub mod c;
pub mod rust;
pub mod sv;
mod value;

pub use c::C;
pub use rust::Rust;
pub use sv::Sv;
pub(super) use value::record;
pub use value::{Field, ToValue, Value};

use crate::quant::Width;

/// A language that operators are deployed in.
pub trait Language: Sized {
    /// What a node asks for before anything has its place.
    type Needs: Default;

    /// What a node says.
    type Node;
}

/// The integer form of an operator in a language. One that lacks it is refused there, by name.
pub trait Emit<L: Language> {
    /// The file with the code that this node needs.
    fn source(&self) -> &'static Source;

    /// What must be known before anything has its place; `width` is that of the arguments.
    fn needs(&self, _width: Width) -> L::Needs {
        L::Needs::default()
    }

    /// Constants and calls.
    fn emit(&self, node: &mut L::Node);
}

/// A file of the deployed network that is the same for all.
#[derive(Debug, PartialEq)]
pub struct Source {
    /// Its name.
    pub file: &'static str,
    /// Its text.
    pub text: &'static str,
    /// What it is built on, and must come before it.
    pub on: &'static [Source],
}

impl Source {
    /// A file that stands alone.
    pub const fn new(file: &'static str, text: &'static str) -> Self {
        Self { file, text, on: &[] }
    }

    /// The same, built on `on`.
    pub const fn on(self, on: &'static [Source]) -> Self {
        Self { on, ..self }
    }
}
