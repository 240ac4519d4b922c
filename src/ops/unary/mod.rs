//! Functions of one number. In integers each is a table of 256 codes, computed here, once: no
//! function is evaluated on the target.
//!
//! ONNX: <https://onnx.ai/onnx/operators/> under the names in [`Unary::ONNX`](Operator::ONNX).

mod function;
#[cfg(test)]
mod tests;

pub use function::{Argument, Function, Step};

use super::clip::Clip;
use super::onnx_node::{Attribute, Input, OnnxNode};
use super::table::TableInt;
use super::{Lowering, Operator, Wants, elements, expect_inputs};
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor};

/// `y = f(x)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// `|x|`
    Abs,
    /// `arctan x`
    Atan,
    /// The least integer that is not below `x`
    Ceil,
    /// `x` if `x ≥ 0`, else `alpha · (e^(x/alpha) − 1)`
    Celu {
        /// Limit far below 0, negated.
        alpha: f32,
    },
    /// `cos x`
    Cos,
    /// `x` if `x ≥ 0`, else `alpha · (eˣ − 1)`
    Elu {
        /// Limit far below 0, negated.
        alpha: f32,
    },
    /// `2/√π · ∫₀ˣ e^(−t²) dt`
    Erf,
    /// `eˣ`
    Exp,
    /// The largest integer that is not above `x`
    Floor,
    /// `x/2 · (1 + erf(x/√2))`, or its approximation by `tanh`
    Gelu {
        /// The approximation `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`.
        tanh: bool,
    },
    /// `min(max(alpha · x + beta, 0), 1)`
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Value at 0.
        beta: f32,
    },
    /// `x · min(max(x/6 + 1/2, 0), 1)`
    HardSwish,
    /// `x` if `x ≥ 0`, else `alpha · x`
    LeakyRelu {
        /// Slope below 0.
        alpha: f32,
    },
    /// `ln x`
    Log,
    /// `−x`
    Neg,
    /// `x^exponent`
    Power {
        /// Any number.
        exponent: f32,
    },
    /// `1 / x`
    Reciprocal,
    /// The nearest integer, half to even
    Round,
    /// `gamma · x` if `x ≥ 0`, else `gamma · alpha · (eˣ − 1)`
    Selu {
        /// Limit far below 0, negated, by `gamma`.
        alpha: f32,
        /// Slope above 0.
        gamma: f32,
    },
    /// `1 / (1 + e^(−x))`
    Sigmoid,
    /// −1, 0 or 1
    Sign,
    /// `sin x`
    Sin,
    /// `ln(1 + eˣ)`
    Softplus,
    /// `√x`
    Sqrt,
    /// `(eˣ − e^(−x)) / (eˣ + e^(−x))`
    Tanh,
}

impl Unary {
    /// The function, evaluated in `f64` with the same digits on every host, and rounded once.
    pub fn apply(self, x: f32) -> f32 {
        let x = x as f64;
        let y = match self {
            Self::Abs => x.abs(),
            Self::Elu { alpha } if x < 0.0 => alpha as f64 * libm::expm1(x),
            Self::LeakyRelu { alpha } if x < 0.0 => alpha as f64 * x,
            Self::Celu { alpha } if x < 0.0 => alpha as f64 * libm::expm1(x / alpha as f64),
            Self::Celu { .. } | Self::Elu { .. } | Self::LeakyRelu { .. } => x,
            Self::Selu { alpha, gamma } if x < 0.0 => {
                gamma as f64 * (alpha as f64 * libm::expm1(x))
            }
            Self::Selu { gamma, .. } => gamma as f64 * x,
            Self::Atan => libm::atan(x),
            Self::Ceil => x.ceil(),
            Self::Cos => libm::cos(x),
            Self::Floor => x.floor(),
            Self::Power { exponent } => libm::pow(x, exponent as f64),
            Self::Round => x.round_ties_even(),
            Self::Sign if x == 0.0 || x.is_nan() => x,
            Self::Sign => x.signum(),
            Self::Sin => libm::sin(x),
            Self::Erf => libm::erf(x),
            Self::Exp => libm::exp(x),
            Self::Gelu { tanh: false } => {
                0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2))
            }
            Self::Gelu { tanh: true } => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                0.5 * x * (1.0 + libm::tanh(inner))
            }
            Self::HardSigmoid { alpha, beta } => (alpha as f64 * x + beta as f64).clamp(0.0, 1.0),
            Self::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Self::Log => libm::log(x),
            Self::Neg => -x,
            Self::Reciprocal => 1.0 / x,
            Self::Sigmoid => 1.0 / (1.0 + libm::exp(-x)),
            Self::Softplus => x.max(0.0) + libm::log1p(libm::exp(-x.abs())),
            Self::Sqrt => x.sqrt(),
            Self::Tanh => libm::tanh(x),
        };
        y as f32
    }

    /// What the function cannot leave.
    pub fn limits(self) -> Clip {
        match self {
            Self::HardSigmoid { .. } | Self::Sigmoid => Clip { lo: 0.0, hi: 1.0 },
            Self::Cos | Self::Erf | Self::Sign | Self::Sin | Self::Tanh => {
                Clip { lo: -1.0, hi: 1.0 }
            }
            _ => Clip::NONE,
        }
    }
}

impl Operator for Unary {
    const ONNX: &'static [&'static str] = &[
        "Abs",
        "Atan",
        "Ceil",
        "Celu",
        "Cos",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Log",
        "Neg",
        "Pow",
        "Reciprocal",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Sin",
        "Softplus",
        "Sqrt",
        "Tanh",
    ];
    const ORDER: Wants = Wants::Inherit;
    type Int = TableInt;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        let op_type = node.op_type.clone();
        let mut number = |name, default| node.take_float(name).map(|f| f.unwrap_or(default));
        Ok(match op_type.as_str() {
            "Abs" => Self::Abs,
            "Atan" => Self::Atan,
            "Ceil" => Self::Ceil,
            "Celu" => Self::Celu { alpha: number("alpha", 1.0)? },
            "Cos" => Self::Cos,
            "Floor" => Self::Floor,
            "Pow" => match node.take_input_number(1)? {
                Some(exponent) => Self::Power { exponent },
                None => bail!(Invalid, "the exponent is missing"),
            },
            "Round" => Self::Round,
            "Selu" => Self::Selu {
                alpha: number("alpha", 1.673_263_2)?,
                gamma: number("gamma", 1.050_701)?,
            },
            "Sign" => Self::Sign,
            "Sin" => Self::Sin,
            "Elu" => Self::Elu { alpha: number("alpha", 1.0)? },
            "Erf" => Self::Erf,
            "Exp" => Self::Exp,
            "Gelu" => match node.take_string("approximate")?.as_deref() {
                None | Some("none") => Self::Gelu { tanh: false },
                Some("tanh") => Self::Gelu { tanh: true },
                Some(other) => bail!(Invalid, "attribute \"approximate\" is \"{other}\""),
            },
            "HardSigmoid" => {
                Self::HardSigmoid { alpha: number("alpha", 0.2)?, beta: number("beta", 0.5)? }
            }
            "HardSwish" => Self::HardSwish,
            "LeakyRelu" => Self::LeakyRelu { alpha: number("alpha", 0.01)? },
            "Log" => Self::Log,
            "Neg" => Self::Neg,
            "Reciprocal" => Self::Reciprocal,
            "Sigmoid" => Self::Sigmoid,
            "Softplus" => Self::Softplus,
            "Sqrt" => Self::Sqrt,
            "Tanh" => Self::Tanh,
            other => bail!(Unsupported, "operator type \"{other}\""),
        })
    }

    fn export(&self, _: &[&[usize]], _: i64) -> OnnxNode {
        let number = |node: OnnxNode, name, x| node.with(name, Attribute::Float(x));
        match *self {
            Self::Abs => OnnxNode::new("Abs"),
            Self::Atan => OnnxNode::new("Atan"),
            Self::Ceil => OnnxNode::new("Ceil"),
            Self::Celu { alpha } => number(OnnxNode::new("Celu"), "alpha", alpha),
            Self::Cos => OnnxNode::new("Cos"),
            Self::Floor => OnnxNode::new("Floor"),
            Self::Power { exponent } => {
                let mut node = OnnxNode::new("Pow");
                node.inputs = vec![Some(Input::Real(Tensor::of([], vec![exponent])))];
                node
            }
            Self::Round => OnnxNode::new("Round"),
            Self::Selu { alpha, gamma } => {
                number(number(OnnxNode::new("Selu"), "alpha", alpha), "gamma", gamma)
            }
            Self::Sign => OnnxNode::new("Sign"),
            Self::Sin => OnnxNode::new("Sin"),
            Self::Elu { alpha } => number(OnnxNode::new("Elu"), "alpha", alpha),
            Self::Erf => OnnxNode::new("Erf"),
            Self::Exp => OnnxNode::new("Exp"),
            Self::Gelu { tanh } => {
                let mode = if tanh { "tanh" } else { "none" };
                OnnxNode { opset: 20, ..OnnxNode::new("Gelu") }
                    .with("approximate", Attribute::String(mode.into()))
            }
            Self::HardSigmoid { alpha, beta } => {
                number(number(OnnxNode::new("HardSigmoid"), "alpha", alpha), "beta", beta)
            }
            Self::HardSwish => OnnxNode { opset: 14, ..OnnxNode::new("HardSwish") },
            Self::LeakyRelu { alpha } => number(OnnxNode::new("LeakyRelu"), "alpha", alpha),
            Self::Log => OnnxNode::new("Log"),
            Self::Neg => OnnxNode::new("Neg"),
            Self::Reciprocal => OnnxNode::new("Reciprocal"),
            Self::Sigmoid => OnnxNode::new("Sigmoid"),
            Self::Softplus => OnnxNode::new("Softplus"),
            Self::Sqrt => OnnxNode::new("Sqrt"),
            Self::Tanh => OnnxNode::new("Tanh"),
        }
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        expect_inputs(inputs, 1..=1).map(<[_]>::to_vec)
    }

    /// A function takes as long as some products.
    fn work(&self, _: &[&[usize]], output: &[usize]) -> u64 {
        elements(output).saturating_mul(16)
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        inputs[0].map(|&x| self.apply(x))
    }

    fn lower(&self, node: &mut Lowering) -> Result<TableInt> {
        Ok(TableInt::new(node, |x| self.apply(x)))
    }
}
