//! The operators. Adding one takes a folder here and two lines in this file;
//! `docs/adding-an-operator.md` walks through it.

pub mod add;
pub mod argmax;
pub mod average_pool;
pub mod batch_norm;
pub mod clip;
pub mod concat;
pub mod conv;
pub mod conv_transpose;
pub mod embedding;
pub mod gather;
pub mod language;
pub mod linear;
pub mod matmul;
pub mod max_pool;
pub mod mean;
pub mod mul;
pub mod normalize;
pub mod pad;
pub mod pick;
pub mod prelu;
pub mod product;
pub mod recode;
pub mod reshape;
pub mod resize;
pub mod slice;
pub mod softmax;
pub mod table;
pub mod transpose;
pub mod unary;

mod broadcast;
mod channels;
mod onnx_node;
mod window;

pub use channels::{Channels, Filters};
pub use onnx_node::{Attribute, Input, OnnxNode};
pub use window::Window;

use crate::arith::Multiplier;
use crate::codes::{CodeTensor, CodeType, Codes, with_codes};
use crate::error::{Result, bail};
use crate::quant::QuantParams;
use crate::tensor::{Shape, Tensor, broadcast_strides, permuted, strides};

/// What an operator must say about itself. Each item is one stage of the pipeline.
///
/// Real tensors have ONNX's axis order (`[n, c, h, w]`). Methods may rely on what
/// [`infer_shape`](Self::infer_shape) has accepted.
pub trait Operator: Sized {
    /// Operator types in ONNX from which it is imported (<https://onnx.ai/onnx/operators/>).
    const ONNX: &'static [&'static str];

    /// Where the codes of arguments and of the result must lie, as far as they are an [`image`].
    const ORDER: Wants = Wants::Is(Order::Plain);

    /// The integer form.
    type Int: IntOperator;

    /// See [`ORDER`](Self::ORDER).
    fn wants(&self) -> Wants {
        Self::ORDER
    }

    /// Whether a node of one of these types is for this operator, where several share the type.
    fn accepts(_node: &OnnxNode) -> bool {
        true
    }

    /// Reads attributes, and arguments that must be constant; takes what it has understood.
    fn import(node: &mut OnnxNode) -> Result<Self>;

    /// The reverse of [`import`](Self::import): type, attributes and constant arguments, as they are in
    /// this version of the operator set, or in the newer one that the node asks for.
    fn export(&self, inputs: &[&[usize]], opset: i64) -> OnnxNode;

    /// Shape of the result.
    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape>;

    /// Real-number semantics: what the float model computes and calibration sees.
    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32>;

    /// Multiply-accumulates of one evaluation.
    fn macs(&self, _inputs: &[&[usize]], _output: &[usize]) -> u64 {
        0
    }

    /// Steps of one evaluation, of whatever kind: bounds the time that it takes.
    fn work(&self, inputs: &[&[usize]], output: &[usize]) -> u64 {
        let numbers = inputs.iter().chain([&output]).map(|shape| elements(shape));
        numbers.fold(self.macs(inputs, output), u64::saturating_add)
    }

    /// What argument `index` is to the quantizer.
    fn role(&self, _index: usize) -> Role {
        Role::Activation
    }

    /// Whether a constant argument may hold −∞ beside numbers, as masks before a softmax do.
    fn takes_masks(&self) -> bool {
        false
    }

    /// Where scale and zero point of the result come from.
    fn output_params(&self) -> OutputParams {
        OutputParams::Calibrated
    }

    /// What becomes of factors of the channels of arguments of these shapes.
    fn channel_factors(&self, _inputs: &[&[usize]], _output: &[usize]) -> Channels {
        Channels::Fixed
    }

    /// Whether it does with codes what it does with the numbers that they stand for.
    fn keeps_codes(&self) -> bool {
        self.output_params() == OutputParams::SameAsInput
    }

    /// Real → integer: constants of the integer form, with the accumulator's proven bound.
    ///
    /// An operator with [`OutputParams::SameAsInput`] is lowered with equal parameters and no clamp.
    fn lower(&self, node: &mut Lowering) -> Result<Self::Int>;
}

/// The integer form of an operator: constants and the exact computation on codes.
pub trait IntOperator {
    /// Integer semantics: what every deployment of the model computes. All arguments have codes of one width,
    /// the result has those of any.
    fn eval<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]);

    /// Largest magnitude that any intermediate sum can take, for any input codes.
    fn acc_bound(&self) -> Option<i64> {
        None
    }

    /// Whether each code of the result is, whatever the codes, that of one certain place of an argument,
    /// or always the same.
    fn moves_codes(&self) -> bool {
        false
    }

    /// Whether it sums in 64 bits, however small the bound is.
    fn sums_are_64_bits(&self) -> bool {
        false
    }

    /// Whether [`eval`](Self::eval) computes the first codes of the result where there is room for no more.
    fn computes_first(&self) -> bool {
        false
    }
}

/// An operator without integer form: passes must have replaced it.
impl IntOperator for std::convert::Infallible {
    fn eval<X: CodeType, Y: CodeType>(&self, _: &[&[X]], _: &mut [Y]) {
        match *self {}
    }
}

/// Axis order in memory of the codes of an [`image`]. Others are always plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As in ONNX.
    Plain,
    /// `[n, c, h, w]` stored as `[n, h, w, c]`, `[n, c, w]` as `[n, w, c]`.
    ChannelsLast,
}

/// The order that an operator wants for arguments and result that are an [`image`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// This one.
    Is(Order),
    /// Any for the arguments; the result has that of the first one of its rank.
    Inherit,
    /// Whatever lets a transposition keep the codes where they are.
    Transpose,
}

/// The axes of `[n, c, …]` as they lie in `[n, …, c]`.
pub fn channels_last(rank: usize) -> Vec<usize> {
    [0].into_iter().chain(2..rank).chain([1]).collect()
}

/// The reverse of [`channels_last`].
pub fn channels_first(rank: usize) -> Vec<usize> {
    [0, rank - 1].into_iter().chain(1..rank - 1).collect()
}

/// `[n, c, h, w]` of an image; a sequence `[n, c, w]` is one of a single line. `None` for other ranks.
pub fn image(shape: &[usize]) -> Option<[usize; 4]> {
    match *shape {
        [n, c, w] => Some([n, c, 1, w]),
        [n, c, h, w] => Some([n, c, h, w]),
        _ => None,
    }
}

/// [`image`], for an operator that knows no others; `what` has this shape.
fn expect_image(what: &str, shape: &[usize]) -> Result<[usize; 4]> {
    match image(shape) {
        Some(image) => Ok(image),
        None => bail!(Unsupported, "{what} of shape {shape:?}: only 1-D and 2-D are known"),
    }
}

/// `[n, c, h, w]` as a shape of `rank`: the reverse of [`image`].
fn of_rank(rank: usize, [n, c, h, w]: [usize; 4]) -> Shape {
    if rank == 3 { vec![n, c, w] } else { vec![n, c, h, w] }
}

/// What an argument is to the quantizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Has its own range.
    Activation,
    /// A constant with symmetric codes; channels along `axis`.
    Weight {
        /// Axis of the output channels.
        axis: usize,
    },
    /// A constant in units of `x_scale · w_scale`.
    Bias,
    /// A constant whose numbers become the result's, with its parameters.
    Table,
}

/// Where scale and zero point of a result come from.
#[derive(Clone, Debug, PartialEq)]
pub enum OutputParams {
    /// From the observed range.
    Calibrated,
    /// Those of the first argument: the result's codes are some of its codes, or lie between them.
    SameAsInput,
    /// One range serves the result and all arguments, so that codes can be copied.
    Shared,
    /// The result lies in 0..1, whatever the data: the lowest code for 0, and scale `2^-bits`, or less where only
    /// small ones were seen.
    Unit,
    /// The result is an index, whatever the data: scale 1, and the lowest code for 0.
    Index,
    /// From the range of the argument that is a [`Role::Table`].
    Table,
}

/// One argument or the result of a node that is being lowered.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    /// Sizes of the axes, in ONNX's order.
    pub shape: &'a [usize],
    /// Axis order in memory.
    pub order: Order,
    /// How codes are read.
    pub quant: &'a QuantParams,
}

impl Operand<'_> {
    /// Sizes in memory order.
    pub fn stored_shape(&self) -> Shape {
        self.stored(self.shape)
    }

    /// Strides in memory, along the axes in ONNX's order.
    pub fn strides(&self) -> Vec<usize> {
        let stored = strides(&self.stored_shape());
        match self.order {
            Order::ChannelsLast => permuted(&stored, &channels_first(stored.len())),
            Order::Plain => stored,
        }
    }

    /// `list`, one entry for each axis in ONNX's order, in the order of memory.
    pub fn stored(&self, list: &[usize]) -> Vec<usize> {
        match self.order {
            Order::ChannelsLast => permuted(list, &channels_last(list.len())),
            Order::Plain => list.to_vec(),
        }
    }

    /// Strides of this operand along the stored axes of `to`, to which it is broadcast.
    pub fn broadcast_strides(&self, to: &Operand) -> Vec<usize> {
        to.stored(&broadcast_strides(self.shape, &self.strides(), to.shape))
    }

    /// The scale of a value that has only one.
    pub fn scale(&self) -> f32 {
        self.quant.scale[0]
    }

    /// The code of real 0.
    pub fn zero_point(&self) -> i32 {
        self.quant.zero_point
    }

    /// Largest magnitude of `code − zero_point`.
    pub fn widest(&self) -> i64 {
        let (lo, hi) = self.quant.code_range();
        (self.zero_point() as i64 - lo as i64).max(hi as i64 - self.zero_point() as i64)
    }
}

/// Everything a node knows when it is lowered.
#[derive(Clone, Debug)]
pub struct Lowering<'a> {
    /// Arguments.
    pub inputs: Vec<Operand<'a>>,
    /// For each argument its codes, if it is a weight or a bias; what is taken out need not be copied.
    pub constants: Vec<Option<CodeTensor>>,
    /// Result.
    pub output: Operand<'a>,
    /// Range of the result's codes; a fused ReLU raises the lower end to the zero point.
    pub clamp: (i32, i32),
}

impl Lowering<'_> {
    /// Takes the codes of argument `index`, which is called `what`.
    fn take_codes(&mut self, index: usize, what: &str) -> Result<CodeTensor> {
        match self.constants.get_mut(index).and_then(Option::take) {
            Some(codes) => Ok(codes),
            None => bail!(Unsupported, "the {what} must be a constant"),
        }
    }
}

/// Makes the enums [`Op`] and [`IntOp`] of all operators, and `dispatch!`, which does the same to whichever
/// operator one of them holds.
macro_rules! ops {
    ($d:tt $($module:ident :: $op:ident),* $(,)?) => {
        /// Any operator, as stored in a graph.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Op { $(#[doc = concat!("See [`mod@", stringify!($module), "`].")] $op($module::$op)),* }

        /// Any operator in integer form.
        #[derive(Clone, Debug, PartialEq)]
        pub enum IntOp {
            $(#[doc = concat!("See [`mod@", stringify!($module), "`].")] $op(<$module::$op as Operator>::Int)),*
        }

        /// What is known of each operator without having one.
        const OPERATORS: &[About] = &[$(About {
            folder: stringify!($module),
            onnx: $module::$op::ONNX,
            import: |node| imported(node, Op::$op),
        }),*];

        impl Op {
            /// Name of the operator in this project.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$op(_) => stringify!($op)),* }
            }

            /// See [`Operator::lower`].
            pub fn lower(&self, node: &mut Lowering) -> Result<IntOp> {
                match self { $(Self::$op(op) => op.lower(node).map(IntOp::$op)),* }
            }
        }

        impl IntOp {
            /// Name of the operator in this project.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$op(_) => stringify!($op)),* }
            }
        }

        macro_rules! dispatch {
            ($d any:ident: $d kind:ident, $d it:ident => $d body:expr) => {
                match $d any { $($d kind::$op($d it) => $d body),* }
            };
        }
    };
}

ops! { $
    add::Add,
    argmax::ArgMax,
    average_pool::AveragePool,
    batch_norm::BatchNorm,
    clip::Clip,
    concat::Concat,
    conv::Conv,
    conv_transpose::ConvTranspose,
    embedding::Embedding,
    gather::Gather,
    unary::Function,
    matmul::MatMul,
    linear::Linear,
    max_pool::MaxPool,
    mean::Mean,
    mul::Mul,
    normalize::Normalize,
    pad::Pad,
    prelu::PRelu,
    recode::Recode,
    reshape::Reshape,
    resize::Resize,
    slice::Slice,
    softmax::Softmax,
    transpose::Transpose,
    unary::Unary,
}

/// An entry of [`OPERATORS`].
struct About {
    folder: &'static str,
    onnx: &'static [&'static str],
    import: fn(&mut OnnxNode) -> Option<Result<Op>>,
}

/// `node` as this operator, if it is one.
fn imported<T: Operator>(node: &mut OnnxNode, op: fn(T) -> Op) -> Option<Result<Op>> {
    let is_one = T::ONNX.contains(&node.op_type.as_str()) && T::accepts(node);
    is_one.then(|| T::import(node).map(op))
}

impl Op {
    /// See [`Operator::import`]; `None` for an operator type that is not known.
    pub fn import(node: &mut OnnxNode) -> Option<Result<Self>> {
        OPERATORS.iter().find_map(|about| (about.import)(node))
    }

    /// Folders of the operators.
    pub fn folders() -> impl Iterator<Item = &'static str> {
        OPERATORS.iter().map(|about| about.folder)
    }

    /// Operator types in ONNX that are imported.
    pub fn onnx_types() -> impl Iterator<Item = &'static str> {
        OPERATORS.iter().flat_map(|about| about.onnx).copied()
    }

    /// See [`Operator::ORDER`].
    pub fn wants(&self) -> Wants {
        dispatch!(self: Op, op => op.wants())
    }

    /// See [`Operator::export`].
    pub fn export(&self, inputs: &[&[usize]], opset: i64) -> OnnxNode {
        dispatch!(self: Op, op => op.export(inputs, opset))
    }

    /// See [`Operator::infer_shape`].
    pub fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        dispatch!(self: Op, op => op.infer_shape(inputs))
    }

    /// See [`Operator::eval_f32`].
    pub fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        dispatch!(self: Op, op => op.eval_f32(inputs))
    }

    /// See [`Operator::macs`].
    pub fn macs(&self, inputs: &[&[usize]], output: &[usize]) -> u64 {
        dispatch!(self: Op, op => op.macs(inputs, output))
    }

    /// See [`Operator::work`].
    pub fn work(&self, inputs: &[&[usize]], output: &[usize]) -> u64 {
        dispatch!(self: Op, op => op.work(inputs, output))
    }

    /// See [`Operator::role`].
    pub fn role(&self, index: usize) -> Role {
        dispatch!(self: Op, op => op.role(index))
    }

    /// See [`Operator::takes_masks`].
    pub fn takes_masks(&self) -> bool {
        dispatch!(self: Op, op => op.takes_masks())
    }

    /// See [`Operator::keeps_codes`].
    pub fn keeps_codes(&self) -> bool {
        dispatch!(self: Op, op => op.keeps_codes())
    }

    /// See [`Operator::channel_factors`].
    pub fn channel_factors(&self, inputs: &[&[usize]], output: &[usize]) -> Channels {
        dispatch!(self: Op, op => op.channel_factors(inputs, output))
    }

    /// See [`Operator::output_params`].
    pub fn output_params(&self) -> OutputParams {
        dispatch!(self: Op, op => op.output_params())
    }
}

impl IntOp {
    /// See [`IntOperator::eval`].
    pub fn eval(&self, inputs: &[&Codes], y: &mut Codes) {
        match inputs[0] {
            Codes::I8(_) => self.eval_from::<i8>(inputs, y),
            Codes::I16(_) => self.eval_from::<i16>(inputs, y),
        }
    }

    fn eval_from<X: CodeType>(&self, inputs: &[&Codes], y: &mut Codes) {
        let inputs: Vec<&[X]> = inputs.iter().map(|codes| X::slice(codes)).collect();
        with_codes!(y, y => self.eval_slices(&inputs, y));
    }

    /// See [`IntOperator::eval`].
    pub fn eval_slices<X: CodeType, Y: CodeType>(&self, inputs: &[&[X]], y: &mut [Y]) {
        dispatch!(self: IntOp, op => op.eval(inputs, y))
    }

    /// See [`IntOperator::acc_bound`].
    pub fn acc_bound(&self) -> Option<i64> {
        dispatch!(self: IntOp, op => op.acc_bound())
    }

    /// See [`IntOperator::moves_codes`].
    pub fn moves_codes(&self) -> bool {
        dispatch!(self: IntOp, op => op.moves_codes())
    }

    /// See [`IntOperator::sums_are_64_bits`].
    pub fn sums_are_64_bits(&self) -> bool {
        dispatch!(self: IntOp, op => op.sums_are_64_bits())
    }

    /// See [`IntOperator::computes_first`].
    pub fn computes_first(&self) -> bool {
        dispatch!(self: IntOp, op => op.computes_first())
    }
}

/// Number of elements of a tensor of this shape.
fn elements(shape: &[usize]) -> u64 {
    shape.iter().fold(1, |n, &size| n.saturating_mul(size as u64))
}

/// The first input shape, if there are exactly as many as `expected`.
fn expect_inputs<'a>(
    inputs: &[&'a [usize]],
    expected: std::ops::RangeInclusive<usize>,
) -> Result<&'a [usize]> {
    if !expected.contains(&inputs.len()) {
        let (lo, hi) = expected.into_inner();
        let expected = if lo == hi { lo.to_string() } else { format!("{lo} to {hi}") };
        bail!(Shape, "expected {expected} inputs, got {}", inputs.len());
    }
    Ok(inputs[0])
}

/// What [`Operator::infer_shape`] has accepted, and so is no error where the operator is evaluated.
fn accepted<T>(checked: Result<T>) -> T {
    match checked {
        Ok(it) => it,
        Err(error) => unreachable!("shapes are checked before evaluation: {error}"),
    }
}

/// Sizes of an image in memory, `[n, h, w, c]`.
fn nhwc(operand: &Operand) -> Result<[usize; 4]> {
    let channels_last = operand.order == Order::ChannelsLast || layouts_coincide(operand.shape);
    match image(operand.shape) {
        Some([n, c, h, w]) if channels_last => Ok([n, h, w, c]),
        _ => bail!(Shape, "expected [n, c, h, w] stored as [n, h, w, c], got {:?}", operand.shape),
    }
}

/// Whether `[n, c, h, w]` and `[n, h, w, c]` are the same order in memory: one channel, or one pixel.
pub(crate) fn layouts_coincide(shape: &[usize]) -> bool {
    matches!(image(shape), Some([_, 1, _, _] | [_, _, 1, 1]))
}

/// A rescaling factor, taken exactly.
fn multiplier(factor: f32) -> Result<Multiplier> {
    match Multiplier::from_f32(factor) {
        Some(multiplier) => Ok(multiplier),
        None => bail!(Range, "rescaling factor {factor:e} is not in 2^-39..2^23"),
    }
}
