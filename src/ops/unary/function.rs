//! A function of one number that a file spells out in several nodes, like `x · sigmoid(x)`.

use super::super::clip::Clip;
use super::super::onnx_node::OnnxNode;
use super::super::table::TableInt;
use super::super::{Lowering, Op, Operator, Wants, elements, expect_inputs};
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor};

/// The function that the last of some steps computes, the steps before it being its intermediate results.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// In the order in which they are computed; at least one.
    pub steps: Vec<Step>,
}

/// One node of the function.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What it does with each number.
    pub op: Op,
    /// Its arguments.
    pub arguments: Vec<Argument>,
    /// What its result is clamped to.
    pub clamp: Clip,
}

/// An argument of a [`Step`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    /// That of the function.
    Input,
    /// The result of this step.
    Step(usize),
    /// A constant.
    Number(f32),
}

impl Function {
    /// Its result for each number.
    pub fn apply(&self, x: &Tensor<f32>) -> Tensor<f32> {
        let mut results: Vec<Tensor<f32>> = Vec::new();
        for step in &self.steps {
            let arguments = step.arguments.iter().map(|argument| match *argument {
                Argument::Input => x.clone(),
                Argument::Step(i) => results[i].clone(),
                Argument::Number(number) => Tensor::of([], vec![number]),
            });
            let arguments: Vec<Tensor<f32>> = arguments.collect();
            let y = step.op.eval_f32(&arguments.iter().collect::<Vec<_>>());
            results.push(if step.clamp == Clip::NONE {
                y
            } else {
                y.map(|&y| step.clamp.apply(y))
            });
        }
        results.pop().unwrap_or_default()
    }

    /// What it cannot leave.
    pub fn limits(&self) -> Clip {
        let last = self.steps.last();
        let own = last.map_or(Clip::NONE, |step| match &step.op {
            Op::Clip(limits) => *limits,
            Op::Unary(function) => function.limits(),
            _ => Clip::NONE,
        });
        let clamp = last.map_or(Clip::NONE, |step| step.clamp);
        Clip { lo: own.lo.max(clamp.lo), hi: own.hi.min(clamp.hi) }
    }
}

impl Operator for Function {
    /// Each step is imported for itself; a pass puts them together.
    const ONNX: &'static [&'static str] = &[];
    const ORDER: Wants = Wants::Inherit;
    type Int = TableInt;

    fn import(node: &mut OnnxNode) -> Result<Self> {
        bail!(Unsupported, "\"{}\" is no function", node.op_type)
    }

    /// The last step; those before it are nodes of their own in a file.
    fn export(&self, inputs: &[&[usize]], opset: i64) -> OnnxNode {
        let export = |step: &Step| step.op.export(&vec![inputs[0]; step.arguments.len()], opset);
        let newest = self.steps.iter().map(|step| export(step).opset).max();
        let last = self.steps.last().map_or(OnnxNode::new("Identity"), export);
        OnnxNode { opset: newest.unwrap_or(opset), ..last }
    }

    fn infer_shape(&self, inputs: &[&[usize]]) -> Result<Shape> {
        expect_inputs(inputs, 1..=1).map(<[_]>::to_vec)
    }

    fn work(&self, _: &[&[usize]], output: &[usize]) -> u64 {
        elements(output).saturating_mul(16 * self.steps.len() as u64)
    }

    fn eval_f32(&self, inputs: &[&Tensor<f32>]) -> Tensor<f32> {
        self.apply(inputs[0])
    }

    fn lower(&self, node: &mut Lowering) -> Result<TableInt> {
        let x = node.inputs[0].quant;
        let (first, last) = x.code_range();
        let all = Tensor::from_vec((first..=last).map(|code| x.dequantize(code, 0)).collect());
        Ok(TableInt::of_all(node.output.quant, node.clamp, self.apply(&all).data()))
    }
}
