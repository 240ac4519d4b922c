//! Computation on constants and shapes: what exporters write to compute sizes, masks and tables at run time is constant
//! here, and is computed while the file is read.

mod arrange;
mod elementwise;
mod product;
mod reduce;
mod scatter;

pub(super) use arrange::squeezed;

use super::importer::take_type;
use super::proto::data_type as dt;
use super::tensors::{Numbers, narrowed, range};
use crate::error::{Result, bail};
use crate::graph::Folding;
use crate::ops::{Attribute, Input, OnnxNode};
use crate::tensor::{MAX_RANK, Shape, Tensor, checked_len};

/// Computes the first result.
type Function = fn(&mut Args) -> Result<Numbers>;

/// What must be constant for a function to be called.
#[derive(Clone, Copy, PartialEq)]
enum Of {
    /// Nothing: it looks at shapes.
    Shapes,
    /// All arguments.
    All,
    /// All arguments, the first one made of integers, or one empty: else an operator computes the same.
    Integers,
}

/// Operator types that are computed here.
const TABLE: &[(&str, Of, Function)] = &[
    ("Abs", Of::Integers, elementwise::unary),
    ("Acos", Of::All, elementwise::unary),
    ("Acosh", Of::All, elementwise::unary),
    ("Add", Of::Integers, elementwise::binary),
    ("And", Of::All, elementwise::binary),
    ("ArgMax", Of::All, reduce::arg),
    ("ArgMin", Of::All, reduce::arg),
    ("Asin", Of::All, elementwise::unary),
    ("Asinh", Of::All, elementwise::unary),
    ("Atanh", Of::All, elementwise::unary),
    ("BitShift", Of::All, elementwise::binary),
    ("BitwiseAnd", Of::All, elementwise::binary),
    ("BitwiseNot", Of::All, elementwise::unary),
    ("BitwiseOr", Of::All, elementwise::binary),
    ("BitwiseXor", Of::All, elementwise::binary),
    ("Cast", Of::All, elementwise::cast),
    ("CastLike", Of::All, elementwise::cast),
    ("Clip", Of::Integers, elementwise::clip),
    ("Compress", Of::All, arrange::compress),
    ("Concat", Of::Integers, arrange::concat),
    ("ConstantOfShape", Of::Shapes, constant_of_shape),
    ("Cosh", Of::All, elementwise::unary),
    ("CumProd", Of::All, reduce::cumulative),
    ("CumSum", Of::All, reduce::cumulative),
    ("Div", Of::All, elementwise::binary),
    ("Einsum", Of::All, product::einsum),
    ("Equal", Of::All, elementwise::compare),
    ("Expand", Of::All, arrange::expand),
    ("EyeLike", Of::Shapes, eye_like),
    ("Flatten", Of::Integers, arrange::reshape),
    ("Gather", Of::All, arrange::gather),
    ("GatherElements", Of::All, arrange::gather_elements),
    ("GatherND", Of::All, arrange::gather_nd),
    ("Greater", Of::All, elementwise::compare),
    ("GreaterOrEqual", Of::All, elementwise::compare),
    ("Hardmax", Of::All, reduce::hardmax),
    ("IsInf", Of::All, elementwise::is_no_number),
    ("IsNaN", Of::All, elementwise::is_no_number),
    ("Less", Of::All, elementwise::compare),
    ("LessOrEqual", Of::All, elementwise::compare),
    ("MatMul", Of::Integers, product::matmul),
    ("MatMulInteger", Of::All, product::matmul),
    ("Max", Of::All, elementwise::binary),
    ("Mean", Of::All, elementwise::binary),
    ("Min", Of::All, elementwise::binary),
    ("Mish", Of::All, elementwise::unary),
    ("Mod", Of::All, elementwise::binary),
    ("Mul", Of::Integers, elementwise::binary),
    ("Neg", Of::Integers, elementwise::unary),
    ("NonZero", Of::All, reduce::non_zero),
    ("Not", Of::All, elementwise::unary),
    ("OneHot", Of::All, scatter::one_hot),
    ("Or", Of::All, elementwise::binary),
    ("Pad", Of::Integers, arrange::pad),
    ("Pow", Of::All, elementwise::power),
    ("Range", Of::All, range_of),
    ("ReduceL1", Of::All, reduce::reduce),
    ("ReduceL2", Of::All, reduce::reduce),
    ("ReduceLogSum", Of::All, reduce::reduce),
    ("ReduceLogSumExp", Of::All, reduce::reduce),
    ("ReduceMax", Of::All, reduce::reduce),
    ("ReduceMean", Of::All, reduce::reduce),
    ("ReduceMin", Of::All, reduce::reduce),
    ("ReduceProd", Of::All, reduce::reduce),
    ("ReduceSum", Of::All, reduce::reduce),
    ("ReduceSumSquare", Of::All, reduce::reduce),
    ("Relu", Of::Integers, elementwise::unary),
    ("Reshape", Of::Integers, arrange::reshape),
    ("ReverseSequence", Of::All, arrange::reverse_sequence),
    ("Scatter", Of::All, scatter::scatter_elements),
    ("ScatterElements", Of::All, scatter::scatter_elements),
    ("ScatterND", Of::All, scatter::scatter_nd),
    ("Shape", Of::Shapes, shape),
    ("Sign", Of::Integers, elementwise::unary),
    ("Sinh", Of::All, elementwise::unary),
    ("Size", Of::Shapes, size),
    ("Slice", Of::Integers, arrange::slice),
    ("Softsign", Of::All, elementwise::unary),
    ("Split", Of::Integers, arrange::split),
    ("Squeeze", Of::Integers, arrange::reshape),
    ("Sub", Of::Integers, elementwise::binary),
    ("Sum", Of::Integers, elementwise::binary),
    ("Tan", Of::All, elementwise::unary),
    ("Tile", Of::All, arrange::tile),
    ("TopK", Of::All, reduce::top_k),
    ("Transpose", Of::Integers, arrange::transpose),
    ("Trilu", Of::All, arrange::trilu),
    ("Unique", Of::All, reduce::unique),
    ("Unsqueeze", Of::Integers, arrange::reshape),
    ("Where", Of::All, elementwise::select),
    ("Xor", Of::All, elementwise::binary),
];

/// Operator types that are computed on constants and shapes.
pub fn types() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.0)
}

/// Whether the result depends on the shapes of arguments only.
pub(super) fn is_of_shapes(op_type: &str) -> bool {
    TABLE.iter().any(|(known, of, _)| *known == op_type && *of == Of::Shapes)
}

/// Whether constants that are codes are needed as real numbers: no operator takes them as they are.
pub(super) fn needs_numbers(op_type: &str) -> bool {
    TABLE.iter().any(|(known, of, _)| *known == op_type && *of == Of::All)
        && !matches!(op_type, "Div" | "Gather" | "Pow" | "ReduceMean")
}

/// A node whose arguments are constants.
pub(super) struct Args<'a> {
    pub(super) node: &'a mut OnnxNode,
    /// Of each argument, and of the attribute `value`, its `data_type`, if it is made of integers.
    pub(super) types: Vec<i32>,
    pub(super) value_type: i32,
    pub(super) folding: &'a mut Folding,
    /// How many results are named.
    pub(super) outputs: usize,
    /// Results behind the first one.
    pub(super) more: Vec<Numbers>,
}

/// The results of a node, if it depends on shapes and constants only; `None` if it is for others.
///
/// # Errors
/// [`Error`](crate::Error) if it is such a computation, but a broken or unknown one.
pub(super) fn fold(mut args: Args) -> Option<Result<Vec<Numbers>>> {
    let node = &*args.node;
    let &(_, of, function) = TABLE.iter().find(|row| row.0 == node.op_type)?;
    let is_constant = |i: &Option<Input>| matches!(i, None | Some(Input::Real(_) | Input::Ints(_)));
    let constant = !node.inputs.is_empty() && node.inputs.iter().all(is_constant);
    let is_empty = |i: &Option<Input>| i.as_ref().is_some_and(|i| i.shape().contains(&0));
    let is_for_me = match of {
        Of::Shapes => true,
        Of::All => constant,
        Of::Integers => {
            let of_ints = matches!(node.inputs.first(), Some(Some(Input::Ints(_))));
            constant && (of_ints || node.inputs.iter().any(is_empty))
        }
    };
    is_for_me.then(|| {
        let first = function(&mut args)?;
        let results: Vec<Numbers> = [first].into_iter().chain(args.more).collect();
        results.into_iter().map(|numbers| settled(numbers, args.folding)).collect()
    })
}

/// Integers as they are kept, if they are some of their type.
fn settled(numbers: Numbers, folding: &mut Folding) -> Result<Numbers> {
    let (t, data_type) = match numbers {
        Numbers::Ints(t, data_type) if data_type != dt::INT64 => (t, data_type),
        others => return Ok(others),
    };
    folding.take(t.shape(), t.shape().iter().product::<usize>() as u64)?;
    let Some(range) = range(data_type) else {
        bail!(Unsupported, "constants made of {}", dt::name(data_type));
    };
    if let Some(bad) = t.data().iter().find(|i| !range.contains(i)) {
        bail!(Invalid, "overflow: {bad} is no {}", dt::name(data_type));
    }
    Ok(match data_type {
        dt::INT8 | dt::UINT8 | dt::INT16 | dt::UINT16 => narrowed(&t, data_type),
        _ => Numbers::Ints(t, data_type),
    })
}

impl Args<'_> {
    fn op_type(&self) -> String {
        self.node.op_type.clone()
    }

    /// Takes room for a result of `shape`, which takes `work` steps, or one for each element; their number.
    fn room_for(&mut self, shape: &[usize], work: u64) -> Result<usize> {
        if shape.len() > MAX_RANK {
            bail!(Unsupported, "a computed constant of {} axes, more than {MAX_RANK}", shape.len());
        }
        let len = checked_len(shape)?;
        // Once for the numbers, of 64 bits, and once for where they come from.
        self.folding.take(shape, work.max(len as u64))?;
        self.folding.take(shape, 0)?;
        Ok(len)
    }

    fn room(&mut self, shape: &[usize]) -> Result<usize> {
        self.room_for(shape, 0)
    }

    fn has(&self, index: usize) -> bool {
        self.node.inputs.get(index).is_some_and(Option::is_some)
    }

    /// Takes argument `index`.
    fn take(&mut self, index: usize) -> Result<Numbers> {
        match self.node.inputs.get_mut(index).and_then(Option::take) {
            Some(Input::Real(t)) => Ok(Numbers::Real(t)),
            Some(Input::Ints(t)) => Ok(Numbers::Ints(t, self.types[index])),
            Some(_) => bail!(Unsupported, "input {index} is no constant"),
            None => bail!(Invalid, "input {index} is missing"),
        }
    }

    fn take_ints(&mut self, index: usize) -> Result<Tensor<i64>> {
        match self.take(index)? {
            Numbers::Ints(t, _) => Ok(t),
            _ => bail!(Unsupported, "input {index} must be made of integers"),
        }
    }

    /// Takes argument `index`, which is one integer.
    fn take_one(&mut self, index: usize) -> Result<i64> {
        match self.take_ints(index)?.data() {
            &[one] => Ok(one),
            other => bail!(Invalid, "input {index}: expected one integer, got {}", other.len()),
        }
    }

    /// Takes argument `index` as sizes; what is none is too large for any computer.
    fn take_sizes(&mut self, index: usize) -> Result<Shape> {
        let sizes = self.take_ints(index)?;
        Ok(sizes.data().iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX)).collect())
    }

    fn shape(&self, index: usize) -> Result<Shape> {
        self.node.input_shape(index).map(<[usize]>::to_vec)
    }

    /// Takes the attribute `axis`, of a tensor of `shape`.
    fn take_axis(&mut self, shape: &[usize], default: i64) -> Result<usize> {
        axis(self.node.take_int("axis")?.unwrap_or(default), shape)
    }
}

/// An axis of a tensor of `shape`, counted from the front.
fn axis(axis: i64, shape: &[usize]) -> Result<usize> {
    match OnnxNode::axis(axis, shape.len())? {
        axis if axis < shape.len() => Ok(axis),
        axis => bail!(Shape, "axis {axis} of shape {shape:?}"),
    }
}

fn int64(shape: impl Into<Shape>, data: Vec<i64>) -> Result<Numbers> {
    Ok(Numbers::Ints(Tensor::new(shape, data)?, dt::INT64))
}

fn of_different_types<T>(args: &Args) -> Result<T> {
    bail!(Unsupported, "{} of constants of different types", args.node.op_type)
}

fn shape(args: &mut Args) -> Result<Numbers> {
    let shape: Vec<i64> = args.shape(0)?.iter().map(|&d| d as i64).collect();
    let rank = shape.len() as i64;
    let clamped = |i: i64| (if i < 0 { i.saturating_add(rank) } else { i }).clamp(0, rank) as usize;
    let start = clamped(args.node.take_int("start")?.unwrap_or(0));
    let end = clamped(args.node.take_int("end")?.unwrap_or(rank));
    args.room(&[shape.len()])?;
    let part = shape[start..end.max(start)].to_vec();
    int64([part.len()], part)
}

fn size(args: &mut Args) -> Result<Numbers> {
    int64([], vec![checked_len(&args.shape(0)?)? as i64])
}

fn constant_of_shape(args: &mut Args) -> Result<Numbers> {
    let shape = args.take_sizes(0)?;
    let n = args.room(&shape)?;
    match args.node.attributes.remove("value") {
        None => Ok(Numbers::Real(Tensor::new(shape, vec![0.0; n])?)),
        Some(Attribute::Tensor(Input::Real(t))) if t.data().len() == 1 => {
            Ok(Numbers::Real(Tensor::new(shape, vec![t.data()[0]; n])?))
        }
        Some(Attribute::Tensor(Input::Ints(t))) if t.data().len() == 1 => {
            Ok(Numbers::Ints(Tensor::new(shape, vec![t.data()[0]; n])?, args.value_type))
        }
        Some(_) => bail!(Invalid, "attribute \"value\": expected a tensor of one element"),
    }
}

fn eye_like(args: &mut Args) -> Result<Numbers> {
    let &[rows, columns] = &args.shape(0)?[..] else {
        bail!(Shape, "expected a matrix, got shape {:?}", args.shape(0)?);
    };
    let data_type = match (take_type(args.node, "dtype")?, &args.node.inputs[0]) {
        (Some(to), _) => to,
        (None, Some(Input::Ints(_))) => args.types[0],
        _ => dt::FLOAT,
    };
    let k = args.node.take_int("k")?.unwrap_or(0);
    let n = args.room(&[rows, columns])?;
    let is_on = |i: usize| (i % columns) as i64 == ((i / columns) as i64).saturating_add(k);
    let ones = Tensor::new([rows, columns], (0..n).map(|i| is_on(i) as i64).collect())?;
    Ok(match dt::is_real(data_type) {
        true => Numbers::Real(ones.map(|&one| one as f32)),
        false => Numbers::Ints(ones, data_type),
    })
}

fn range_of(args: &mut Args) -> Result<Numbers> {
    if let Some(Some(Input::Real(_))) = args.node.inputs.first() {
        let [start, limit, delta] = [0, 1, 2].map(|i| args.node.take_input_number(i));
        let (Some(start), Some(limit), Some(delta)) = (start?, limit?, delta?) else {
            bail!(Invalid, "expected start, limit and delta");
        };
        let count = ((limit as f64 - start as f64) / delta as f64).ceil().max(0.0);
        // Not a number is none of these.
        if !(0.0..=9e15).contains(&count) || delta == 0.0 {
            bail!(Invalid, "a range from {start} to {limit} with step {delta}");
        }
        let n = args.room(&[count as usize])?;
        let data = (0..n).map(|i| start + i as f32 * delta);
        return Ok(Numbers::Real(Tensor::from_vec(data.collect())));
    }
    let data_type = args.types[0];
    let [start, limit, delta] = [0, 1, 2].map(|i| args.take_one(i));
    let (start, limit, delta) = (start? as i128, limit? as i128, delta? as i128);
    if delta == 0 {
        bail!(Invalid, "a range with step 0");
    }
    let span = if delta > 0 { limit - start } else { start - limit };
    let count = (span.max(0) as u128).div_ceil(delta.unsigned_abs());
    let n = args.room(&[usize::try_from(count).unwrap_or(usize::MAX)])?;
    let data: Vec<i64> = (0..n as i128).map(|i| (start + i * delta) as i64).collect();
    Ok(Numbers::Ints(Tensor::from_vec(data), data_type))
}
