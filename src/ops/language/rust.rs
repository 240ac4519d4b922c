//! Rust without `std`: the integer references themselves.

use super::{Language, ToValue, Value};
use crate::quant::Width;

/// `no_std` Rust.
#[derive(Clone, Copy, Debug)]
pub struct Rust;

impl Language for Rust {
    type Needs = ();
    type Node = Node;
}

/// What one node adds: constants, and calls of functions.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// What the names of all constants begin with.
    pub name: String,
    /// Width of the result's codes.
    pub width: Width,
    /// The constants.
    pub constants: Vec<Constant>,
    /// The calls.
    pub calls: Vec<Call>,
}

/// A constant of its own.
#[derive(Clone, Debug)]
pub struct Constant {
    /// Its name.
    pub name: String,
    /// Its type.
    pub of: String,
    /// What it is.
    pub value: Value,
}

/// `function(argument, …, more, y)`.
#[derive(Clone, Debug)]
pub struct Call {
    /// The function, by module and name.
    pub function: String,
    /// The arguments between those of the node and the result.
    pub more: String,
    /// The one argument it takes, if it does not take all of the node's.
    pub argument: Option<usize>,
}

/// The type of codes of this width.
pub fn code(width: Width) -> &'static str {
    match width {
        Width::W4 | Width::W8 => "i8",
        Width::W16 => "i16",
        Width::W32 => "i32",
    }
}

impl Node {
    /// Adds a constant of type `of`, and returns its name.
    pub fn constant(&mut self, suffix: &str, of: &str, value: &impl ToValue) -> String {
        let name = format!("{}{suffix}", self.name);
        let constant = Constant { name: name.clone(), of: of.into(), value: value.to_value() };
        self.constants.push(constant);
        name
    }

    /// A call of `function(argument, …, more, y)`.
    pub fn call(&mut self, function: impl Into<String>, more: String, argument: Option<usize>) {
        self.calls.push(Call { function: function.into(), more, argument });
    }
}
