//! A node of an ONNX file as plain data: what importer, exporter and operators exchange.

use std::collections::BTreeMap;

use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor};

/// Value of an attribute.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Attribute {
    Int(i64),
    Float(f32),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    String(String),
    Strings(Vec<String>),
    Tensor(Input),
}

impl Attribute {
    /// What it is, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Int(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Ints(_) => "integers",
            Self::Floats(_) => "numbers",
            Self::String(_) => "a text",
            Self::Strings(_) => "texts",
            Self::Tensor(_) => "a tensor",
        }
    }
}

/// What is known of an argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Computed by the network, of this shape.
    Activation(Shape),
    /// A quantized constant of this shape, and the real number that it is, if it is but one.
    Codes(Shape, Option<f32>),
    /// A constant of real numbers.
    Real(Tensor<f32>),
    /// A constant of integers, such as a shape or an axis.
    Ints(Tensor<i64>),
}

impl Input {
    /// Sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Activation(shape) | Self::Codes(shape, _) => shape,
            Self::Real(t) => t.shape(),
            Self::Ints(t) => t.shape(),
        }
    }
}

/// One node. An operator takes out what it has understood; what is left over is an error.
#[derive(Clone, Debug, PartialEq)]
pub struct OnnxNode {
    /// Operator type.
    pub op_type: String,
    /// Version of the operator set.
    pub opset: i64,
    /// Attributes by name.
    pub attributes: BTreeMap<String, Attribute>,
    /// Arguments; `None` where an optional one is absent or has been taken.
    pub inputs: Vec<Option<Input>>,
    /// Constants that take the place of arguments, by their index.
    pub replaced: BTreeMap<usize, Tensor<f32>>,
    /// Factors of arguments that are quantized constants, by their index.
    pub scaled: BTreeMap<usize, f32>,
}

impl OnnxNode {
    /// A node to be exported.
    pub fn new(op_type: &str) -> Self {
        Self {
            op_type: op_type.into(),
            opset: 0,
            attributes: BTreeMap::new(),
            inputs: Vec::new(),
            replaced: BTreeMap::new(),
            scaled: BTreeMap::new(),
        }
    }

    /// Adds an attribute.
    pub fn with(mut self, name: &str, attribute: Attribute) -> Self {
        self.attributes.insert(name.into(), attribute);
        self
    }

    /// Adds a list of integers as an attribute.
    pub fn with_ints(self, name: &str, ints: &[usize]) -> Self {
        self.with(name, Attribute::Ints(ints.iter().map(|&i| i as i64).collect()))
    }

    /// Takes an integer attribute.
    pub fn take_int(&mut self, name: &str) -> Result<Option<i64>> {
        match self.attributes.remove(name) {
            None => Ok(None),
            Some(Attribute::Int(i)) => Ok(Some(i)),
            Some(other) => {
                bail!(Invalid, "attribute \"{name}\": expected an integer, got {}", other.kind())
            }
        }
    }

    /// Takes an integer attribute that is 0 or 1.
    pub fn take_flag(&mut self, name: &str) -> Result<bool> {
        self.take_flag_or(name, false)
    }

    /// Takes an integer attribute that is 0 or 1, or `default` where it is absent.
    pub fn take_flag_or(&mut self, name: &str, default: bool) -> Result<bool> {
        match self.take_int(name)? {
            None => Ok(default),
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            Some(other) => bail!(Invalid, "attribute \"{name}\": expected 0 or 1, got {other}"),
        }
    }

    /// Takes a number attribute.
    pub fn take_float(&mut self, name: &str) -> Result<Option<f32>> {
        match self.attributes.remove(name) {
            None => Ok(None),
            Some(Attribute::Float(f)) => Ok(Some(f)),
            Some(other) => {
                bail!(Invalid, "attribute \"{name}\": expected a number, got {}", other.kind())
            }
        }
    }

    /// Takes a text attribute.
    pub fn take_string(&mut self, name: &str) -> Result<Option<String>> {
        match self.attributes.remove(name) {
            None => Ok(None),
            Some(Attribute::String(s)) => Ok(Some(s)),
            Some(other) => {
                bail!(Invalid, "attribute \"{name}\": expected a text, got {}", other.kind())
            }
        }
    }

    /// Takes a list of texts.
    pub fn take_strings(&mut self, name: &str) -> Result<Option<Vec<String>>> {
        match self.attributes.remove(name) {
            None => Ok(None),
            Some(Attribute::Strings(all)) => Ok(Some(all)),
            Some(other) => {
                bail!(Invalid, "attribute \"{name}\": expected texts, got {}", other.kind())
            }
        }
    }

    /// Takes a list of integers.
    pub fn take_ints(&mut self, name: &str) -> Result<Option<Vec<i64>>> {
        match self.attributes.remove(name) {
            None => Ok(None),
            Some(Attribute::Ints(i)) => Ok(Some(i)),
            Some(other) => {
                bail!(Invalid, "attribute \"{name}\": expected integers, got {}", other.kind())
            }
        }
    }

    /// Takes a size for each of `axes` axes, all at least 1, as those of height and width: a single one
    /// is that of the width, and `line` that of the height.
    pub fn take_pair(
        &mut self,
        name: &str,
        axes: usize,
        line: usize,
    ) -> Result<Option<[usize; 2]>> {
        let Some(list) = self.take_ints(name)? else { return Ok(None) };
        let sizes = sizes(name, &list)?;
        match sizes[..] {
            _ if sizes.len() != axes => {
                bail!(Invalid, "attribute \"{name}\": expected {axes} sizes, got {list:?}")
            }
            [a] => Ok(Some([line, a])),
            [a, b] => Ok(Some([a, b])),
            _ => bail!(Unsupported, "attribute \"{name}\": only 1-D and 2-D are known"),
        }
    }

    /// Takes argument `index`, which must be a constant of integers.
    pub fn take_input_ints(&mut self, index: usize) -> Result<Option<Vec<i64>>> {
        match self.inputs.get_mut(index).and_then(Option::take) {
            None => Ok(None),
            Some(Input::Ints(t)) => Ok(Some(t.into_data())),
            Some(_) => bail!(Unsupported, "input {index} must be a constant of integers"),
        }
    }

    /// Takes argument `index`, which must be a constant of real numbers.
    pub fn take_input_reals(&mut self, index: usize) -> Result<Option<Vec<f32>>> {
        match self.inputs.get_mut(index).and_then(Option::take) {
            None => Ok(None),
            Some(Input::Real(t)) => Ok(Some(t.into_data())),
            Some(_) => bail!(Unsupported, "input {index} must be a constant of real numbers"),
        }
    }

    /// Takes argument `index`, which must be one constant number.
    pub fn take_input_number(&mut self, index: usize) -> Result<Option<f32>> {
        match self.inputs.get_mut(index).and_then(Option::take) {
            None => Ok(None),
            Some(Input::Real(t)) if t.data().len() == 1 => Ok(Some(t.data()[0])),
            Some(Input::Codes(_, Some(number))) => Ok(Some(number)),
            Some(Input::Ints(t)) if t.data().len() == 1 => Ok(Some(t.data()[0] as f32)),
            Some(_) => bail!(Unsupported, "input {index} must be one constant number"),
        }
    }

    /// Shape of argument `index`.
    pub fn input_shape(&self, index: usize) -> Result<&[usize]> {
        match self.inputs.get(index) {
            Some(Some(input)) => Ok(input.shape()),
            _ => bail!(Invalid, "input {index} is missing"),
        }
    }

    /// `axis` counted from the front, for a tensor of rank `rank`. `axis == rank` is accepted.
    pub fn axis(axis: i64, rank: usize) -> Result<usize> {
        let from_front = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        match usize::try_from(from_front) {
            Ok(a) if a <= rank => Ok(a),
            _ => bail!(Shape, "axis {axis} of a tensor of rank {rank}"),
        }
    }

    /// Index `i`, counted from the front, of an axis of `size` elements.
    pub fn position(i: i64, size: usize) -> Result<usize> {
        let from_front = if i < 0 { i.saturating_add(size as i64) } else { i };
        match usize::try_from(from_front) {
            Ok(i) if i < size => Ok(i),
            _ => bail!(Invalid, "index {i} of an axis of {size}"),
        }
    }
}

/// Sizes in attributes stay below this.
pub const MAX_SIZE: usize = 1 << 24;

/// `list` as sizes ≥ 0 that leave room for arithmetic.
pub fn sizes(name: &str, list: &[i64]) -> Result<Vec<usize>> {
    list.iter()
        .map(|&i| match usize::try_from(i) {
            Ok(size) if size < MAX_SIZE => Ok(size),
            _ => bail!(Invalid, "attribute \"{name}\": {i} is not a size"),
        })
        .collect()
}
