//! A target beside those there are, with two operators only: all others are refused, by the node's name.

use std::path::Path;

use super::{Net, SCHEMES};
use crate::analyze::coverage;
use crate::emit::{Build, File, Layout, TARGETS, Target, TestVector, emitter, emitters, operators};
use crate::error::Result;
use crate::graph::Graph;
use crate::lower::{IntGraph, IntNode, lower};
use crate::memory::Memory;
use crate::ops::add::{Add, AddInt};
use crate::ops::clip::Clip;
use crate::ops::conv::Conv;
use crate::ops::language::{Emit, Language, Source, ToValue, Value};
use crate::ops::mul::{Mul, MulInt};
use crate::ops::reshape::Reshape;
use crate::ops::softmax::Softmax;
use crate::ops::{Op, Window};
use crate::quant::Range;
use crate::quantize::quantize;

/// Lists constants.
#[derive(Debug)]
struct Listing;

impl Language for Listing {
    type Needs = ();
    type Node = Vec<Value>;
}

impl Emit<Listing> for AddInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("add.txt", "a + b") }
    }

    fn emit(&self, node: &mut Vec<Value>) {
        node.push(self.factor.to_value());
    }
}

impl Emit<Listing> for MulInt {
    fn source(&self) -> &'static Source {
        const { &Source::new("mul.txt", "a * b") }
    }

    fn emit(&self, node: &mut Vec<Value>) {
        node.push(self.multiplier.to_value());
    }
}

operators!(Listing: Add, Mul);

impl Target for Listing {
    fn name(&self) -> &'static str {
        "listing"
    }

    fn about(&self) -> &'static str {
        "Constants only"
    }

    fn takes(&self, _: &IntGraph, node: &IntNode) -> Result<()> {
        emitter::<Self>(node, self).map(|_| ())
    }

    fn files(&self, graph: &IntGraph, name: &str, _: &[TestVector]) -> Result<Vec<File>> {
        let (mut files, mut all) = (vec![], vec![]);
        for emitter in emitters::<Self>(graph, self)? {
            let source = emitter.source();
            files.push((source.file.into(), source.text.into()));
            emitter.emit(&mut all);
        }
        files.push((format!("{name}.txt"), format!("{all:?}")));
        Ok(files)
    }

    fn runner(&self, _: &IntGraph, _: &str) -> File {
        File::default()
    }

    fn memory(&self, graph: &IntGraph) -> Option<Memory> {
        Some(Memory::disjoint(graph))
    }

    fn builds(&self) -> &'static [Build] {
        &[]
    }

    fn test(&self, _: &Path, _: &Layout) -> String {
        String::new()
    }
}

fn quantized(float: &Graph) -> Graph {
    let ranges = vec![Some(Range { lo: -1.0, hi: 1.0 }); float.values.len()];
    quantize(float, &ranges, SCHEMES[3]).unwrap()
}

fn integers(float: &Graph) -> IntGraph {
    lower(&quantized(float)).unwrap()
}

fn targets() -> Vec<&'static dyn Target> {
    TARGETS.iter().copied().chain([&Listing as _]).collect()
}

/// Names of the nodes that the engine, C, Rust, hardware and [`Listing`] refuse.
fn refused(graph: &Graph) -> Vec<Vec<String>> {
    let coverage = coverage(graph, SCHEMES[3], &targets()).into_iter();
    coverage.map(|c| c.refused.into_iter().map(|refusal| refusal.node).collect()).collect()
}

#[test]
fn a_target_writes_the_operators_that_it_has() {
    let mut net = Net::new(0);
    let (a, b) = (net.input(&[4]), net.input(&[4]));
    let sum = net.node(Op::Add(Add { subtract: false }), &[a, b]);
    let product = net.node(Op::Mul(Mul), &[sum, b]);
    let int = integers(&net.finish(&[product]));
    let files = Listing.files(&int, "net", &[]).unwrap();
    let names: Vec<&str> = files.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["add.txt", "mul.txt", "net.txt"]);
    assert!(files[2].1.contains("Record(\"Multiplier\""), "{}", files[2].1);
}

/// Before any work, and when the files are asked for.
#[test]
fn a_target_refuses_each_operator_that_it_does_not_have_by_the_nodes_name() {
    let mut net = Net::new(0);
    let (a, b) = (net.input(&[1, 4]), net.input(&[1, 4]));
    let sum = net.node(Op::Add(Add { subtract: false }), &[a, b]);
    let limited = net.node(Op::Clip(Clip::RELU), &[sum]);
    let shares = net.node(Op::Softmax(Softmax { axis: 1 }), &[limited]);
    let float = net.finish(&[shares]);
    let of = |graph: &Graph| coverage(graph, SCHEMES[3], &targets());
    let coverage = of(&float);
    let names: Vec<&str> = coverage.iter().map(|c| c.target).collect();
    assert_eq!(names, ["engine", "c", "rust", "sv", "listing"]);
    assert!(coverage[..4].iter().all(|c| c.refused.is_empty()), "{coverage:?}");
    let refused: Vec<&str> = coverage[4].refused.iter().map(|r| &*r.node).collect();
    assert_eq!(refused, ["n1", "n2"]);
    let expected =
        "in node \"n1\" (Clip): unsupported: target \"listing\" does not have this operator";
    assert_eq!(coverage[4].refused[0].reason, expected);
    assert_eq!(coverage, of(&quantized(&float)));
    let message = Listing.files(&integers(&float), "net", &[]).unwrap_err().to_string();
    assert_eq!(message, expected);
}

/// Operators that lowering adds are refused in the name of the node that they come from, once.
#[test]
fn what_a_node_becomes_is_refused_by_the_nodes_name() {
    let mut net = Net::new(1);
    let x = net.input(&[1, 2, 3, 3]);
    let weight = net.random(&[2, 2, 1, 1]);
    let (window, group) = (Window::new([1, 1]), 1);
    let y = net.node(Op::Conv(Conv { window, group }), &[x, weight]);
    let flat = net.node(Op::Reshape(Reshape { shape: vec![1, 18] }), &[y]);
    let mut graph = quantized(&net.finish(&[flat]));
    // Codes are moved, and become others: three operators.
    let quant = graph.values[flat].quant.as_mut().unwrap();
    quant.scale[0] *= 2.0;
    let integer = lower(&graph).unwrap();
    let origins: Vec<&str> = integer.nodes.iter().map(|node| &*node.origin).collect();
    assert_eq!(origins, ["n0", "n1", "n1", "n1"]);
    assert_eq!(
        refused(&graph),
        [vec![], vec![], vec![], vec!["n1".to_string()], vec!["n0".to_string(), "n1".into()]]
    );
    // What has no integer form ends nothing: what stands behind it is asked for, too.
    graph.values[y].quant = None;
    let all = ["n0".to_string(), "n1".into()];
    assert_eq!(refused(&graph), [&all[..]; 5]);
}
