mod activation;
mod batch_norm;
mod bias;
mod bytes;
mod constants;
mod functions;
mod normalization;

use super::*;
use crate::graph::{Node, Parts, Value};
use crate::ops::add::Add;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::clip::Clip;
use crate::ops::concat::Concat;
use crate::ops::conv::Conv;
use crate::ops::conv_transpose::ConvTranspose;
use crate::ops::linear::Linear;
use crate::ops::max_pool::MaxPool;
use crate::ops::mean::Mean;
use crate::ops::mul::Mul;
use crate::ops::normalize::{Kind, Normalize};
use crate::ops::reshape::Reshape;
use crate::ops::softmax::Softmax;
use crate::ops::transpose::Transpose;
use crate::ops::unary::Unary;
use crate::ops::{Op, Window};
use crate::quant::{QuantParams, Width};
use crate::tensor::Tensor;
use crate::testing::{Net, Rng, random_inputs, run_float};

const ADD: Op = Op::Add(Add { subtract: false });

const RELU: Op = Op::Clip(Clip::RELU);

const LINEAR: Op = Op::Linear(Linear { transposed: false });

fn conv(kernel: usize, group: usize) -> Op {
    Op::Conv(Conv { window: Window::new([kernel, kernel]), group })
}

fn batch_norm(net: &mut Net, x: usize, epsilon: f32) -> usize {
    let channels = net.graph.values[x].shape[1];
    let [scale, bias, mean] = [(); 3].map(|_| net.random(&[channels]));
    let variance = net.rng.reals(&[channels], 1.0).map(|x| x.abs() + 0.1);
    let variance = net.constant(variance);
    net.node(Op::BatchNorm(BatchNorm { epsilon }), &[x, scale, bias, mean, variance])
}

/// Applies `pass`, checks that the network computes what it did, and returns the names of the
/// operators that are left.
fn names_after(pass: fn(&mut Graph), graph: &mut Graph) -> String {
    let inputs = random_inputs(graph, &mut Rng(7), 2.0);
    let (before, _) = run_float(graph, &inputs);
    pass(graph);
    graph.check().unwrap();
    let (after, _) = run_float(graph, &inputs);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.shape(), after.shape());
        let largest = before.data().iter().fold(0f32, |max, x| max.max(x.abs()));
        for (before, after) in before.data().iter().zip(after.data()) {
            assert!((before - after).abs() <= 1e-5 * largest, "{before} became {after}");
        }
    }
    let names: Vec<&str> = graph.nodes.iter().map(|n| n.op.name()).collect();
    names.join(" ")
}

/// Builds a network with one input of shape `x`, whose outputs `build` returns.
fn net(x: &[usize], build: impl Fn(&mut Net, usize) -> Vec<usize>) -> Graph {
    let mut net = Net::new(3);
    let x = net.input(x);
    let outputs = build(&mut net, x);
    net.finish(&outputs)
}

const IMAGE: &[usize] = &[2, 3, 4, 4];

fn clamps(graph: &Graph) -> Vec<Clip> {
    graph.nodes.iter().map(|n| n.clamp).collect()
}

/// Convolution, bias, batch norm and activation are one node in the end, and nothing else is left.
#[test]
fn prepare_leaves_one_node() {
    let mut graph = net(IMAGE, |net, x| {
        let weight = net.random(&[8, 3, 3, 3]);
        let y = net.node(conv(3, 1), &[x, weight]);
        let added = net.random(&[8, 1, 1]);
        let y = net.node(ADD, &[y, added]);
        let y = batch_norm(net, y, 1e-5);
        let added = net.random(&[1, 8, 1, 1]);
        let y = net.node(ADD, &[y, added]);
        vec![net.node(RELU, &[y])]
    });
    assert_eq!(names_after(prepare, &mut graph), "Conv");
    assert_eq!(graph.values.len(), 4, "input, weight, bias and output");
    assert_eq!(clamps(&graph), [Clip::RELU]);
}

const MUL: Op = Op::Mul(Mul);

fn number(net: &mut Net, x: f32) -> usize {
    net.constant(Tensor::of(vec![], vec![x]))
}

fn unary(net: &mut Net, function: Unary, x: usize) -> usize {
    net.node(Op::Unary(function), &[x])
}

/// A sum or product with a number.
fn with(net: &mut Net, op: Op, x: usize, by: f32) -> usize {
    let by = number(net, by);
    net.node(op, &[x, by])
}
