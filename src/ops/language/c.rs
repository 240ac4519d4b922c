//! C99: the constants of a call are a struct that is named as the function; lists are arrays of their own.

use super::{Field, Language, ToValue, Value};
use crate::quant::Width;

/// C99.
#[derive(Clone, Copy, Debug)]
pub struct C;

impl Language for C {
    type Needs = Needs;
    type Node = Node;
}

/// Types of a node's code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Types {
    /// Width of the arguments.
    pub x: Width,
    /// Width of the result.
    pub y: Width,
    /// Width of the weights; that of the narrowest, if there are none.
    pub weights: Width,
    /// Whether `acc_t` has 64 bits.
    pub wide: bool,
}

impl Types {
    /// Bits of `acc_t`.
    pub fn acc_bits(self) -> usize {
        if self.wide { 64 } else { 32 }
    }
}

/// What a node needs of the whole network's memory, and of types.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Needs {
    /// Width of its weights.
    pub weights: Width,
    /// Bytes that the code works in, if it is given any.
    pub scratch: Option<usize>,
    /// The arguments that the result may be written over, if nobody reads them later.
    pub writes_over: Vec<usize>,
}

/// The elements of an array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Element {
    /// `y_t`
    Code,
    /// `weight_t`
    Weight,
    /// `acc_t`
    Acc,
    /// `uint8_t`
    U8,
    /// `int32_t`
    I32,
    /// `uint32_t`
    U32,
    /// `struct multiplier`
    Multiplier,
    /// A struct of this name and so many bytes.
    Struct(&'static str, usize),
}

/// What one node adds: constants, and calls of functions.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Types of its code.
    pub types: Types,
    /// Number of elements of the result.
    pub size: usize,
    /// The calls.
    pub calls: Vec<Call>,
    /// Members of the constants of the next call.
    fields: Vec<(Field, Option<Element>)>,
    /// See [`Call::shared`].
    shared: usize,
}

/// One call of a function that has its constants as its first argument.
#[derive(Clone, Debug)]
pub struct Call {
    /// The function; the type of the constants has the same name.
    pub function: &'static str,
    /// The constants, each with the type of its elements if it is an array of its own.
    pub fields: Vec<(Field, Option<Element>)>,
    /// Bytes of flash that the members themselves take, on a 32-bit processor.
    pub shared: usize,
    /// The one argument it takes, if it does not take all of the node's.
    pub argument: Option<usize>,
}

impl Node {
    /// Nothing yet, for a result of `size` elements.
    pub fn new(types: Types, size: usize) -> Self {
        Self { types, size, ..Self::default() }
    }

    /// A number, or a few of them, as a member of the constants of the next call.
    pub fn value(&mut self, member: &'static str, value: impl ToValue) -> &mut Self {
        self.field(member, value.to_value(), None)
    }

    /// As [`value`](Self::value), with a name of the C code.
    pub fn name(&mut self, member: &'static str, name: &'static str) -> &mut Self {
        self.field(member, Value::Name(name), None)
    }

    /// An array of its own, to which a member points.
    pub fn array<T: ToValue>(
        &mut self,
        member: &'static str,
        of: Element,
        items: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        let items = items.into_iter().map(|item| item.to_value()).collect();
        self.field(member, Value::List(items), Some(of))
    }

    fn field(&mut self, name: &'static str, value: Value, of: Option<Element>) -> &mut Self {
        self.fields.push((Field { name, value }, of));
        self
    }

    /// Shape, or strides; one axis at least.
    pub fn sizes(&mut self, member: &'static str, sizes: &[usize]) -> &mut Self {
        let sizes = if sizes.is_empty() { &[1] } else { sizes };
        self.array(member, Element::I32, sizes.iter().copied())
    }

    /// Code that several layers share reads the members of the next call through a pointer, so that they
    /// take flash, too: `bytes` on a 32-bit processor. Of others nothing is left when they are folded.
    pub fn read_by_shared_code(&mut self, bytes: usize) -> &mut Self {
        self.shared = self.shared.max(bytes);
        self
    }

    /// Ends the constants of a call of `function`.
    pub fn call(&mut self, function: &'static str, argument: Option<usize>) {
        let (fields, shared) = (std::mem::take(&mut self.fields), std::mem::take(&mut self.shared));
        self.calls.push(Call { function, fields, shared, argument });
    }
}
