//! Outputs that join others, and ranges that are chosen by what they cost.

use super::*;
use crate::ops::concat::Concat;
use crate::ops::unary::Unary;

/// Boxes up to 500, scores up to 1, and what is between them, moved and joined twice.
fn head(largest: f32) -> Graph {
    let mut net = Net::new(3);
    let x = net.input(&[1, 4, 2, 2]);
    let large = net.constant(Tensor::new([4, 1, 1], vec![largest; 4]).unwrap());
    let boxes = net.node(Op::Mul(crate::ops::mul::Mul), &[x, large]);
    let scores = net.node(Op::Unary(Unary::Sigmoid), &[x]);
    let moved = net.node(Op::Reshape(Reshape { shape: vec![1, 4, 2, 2] }), &[scores]);
    let inner = net.node(Op::Concat(Concat { axis: 1 }), &[moved, x]);
    let joined = net.node(Op::Concat(Concat { axis: 1 }), &[boxes, inner]);
    let y = net.node(Op::Reshape(Reshape { shape: vec![1, 48] }), &[joined]);
    net.finish(&[y, joined])
}

fn calibrated(graph: Graph) -> Quantizer {
    let samples = (0..8).map(|seed| random_inputs(&graph, &mut Rng(seed), 1.0));
    let samples: Vec<_> = samples.collect();
    Quantizer::from_graph(graph).unwrap().calibrate_stream(samples).unwrap()
}

fn wide(quantized: &Quantized) -> Vec<&str> {
    let values = quantized.graph.values.iter().filter(|v| v.constant.is_none());
    let wide = values.filter(|v| v.quant.as_ref().is_some_and(|q| q.width == Width::W16));
    wide.map(|v| v.name.as_str()).collect()
}

#[test]
fn outputs_that_join_what_lies_far_apart_have_16_bits() {
    let quantized = calibrated(head(500.0)).quantize().unwrap();
    // All but the input.
    assert_eq!(wide(&quantized).len(), 6, "{:?}", wide(&quantized));
    assert_eq!(quantized.widened.len(), 2);
    for near in [
        calibrated(head(5.0)).quantize().unwrap(),
        calibrated(head(500.0)).output_width(Width::W8).quantize().unwrap(),
    ] {
        assert!(wide(&near).is_empty() && near.widened.is_empty(), "{:?}", wide(&near));
    }
    // Only what is joined and moved, whatever it is joined of.
    let outputs = calibrated(head(5.0)).output_width(Width::W16).quantize().unwrap();
    assert_eq!(wide(&outputs).len(), 2, "{:?}", wide(&outputs));
}

#[test]
fn a_rule_of_the_user_counts_for_more() {
    let recipe = Recipe::from_json(r#"[{"nodes": ".", "activations": 8}]"#).unwrap();
    let quantized = calibrated(head(500.0)).recipe(recipe).quantize().unwrap();
    assert!(quantized.widened.is_empty());
}

#[test]
fn joined_outputs_are_split() {
    let quantizer = Quantizer::from_graph(head(500.0)).unwrap();
    let mut graph = Graph::clone(quantizer.graph());
    let name = |graph: &Graph, v: ValueId| graph.values[v].name.clone();
    // The reshaped copy stays; what the other output joins takes its place.
    let joined = graph.nodes.iter().filter(|n| matches!(n.op, Op::Concat(_))).collect::<Vec<_>>();
    let parts = [joined[1].inputs[0], joined[0].inputs[0], joined[0].inputs[1]];
    let expected: Vec<String> =
        [graph.outputs[0]].iter().chain(&parts).map(|&v| name(&graph, v)).collect();
    split_outputs(&mut graph);
    let outputs: Vec<String> = graph.outputs.iter().map(|&v| name(&graph, v)).collect();
    assert_eq!(outputs, expected);
    graph.outputs.remove(0);
    split_outputs(&mut graph);
    assert!(graph.check().is_ok() && graph.nodes.iter().all(|n| !matches!(n.op, Op::Concat(_))));
}

/// One in 14 400 values is a hundred times as large, and all that the next node looks at.
#[test]
fn rare_peaks_stay_if_their_reader_needs_them() {
    let mut net = Net::new(0);
    let x = net.input(&[1, 1, 120, 120]);
    let pooled = net.node(Op::MaxPool(MaxPool(Window::new([120, 120]))), &[x]);
    let w = net.constant(Tensor::new([2, 1, 1, 1], vec![1.0, -0.5]).unwrap());
    let y = net.node(POINTWISE, &[pooled, w]);
    let graph = net.finish(&[y]);
    let sample = |seed| {
        let mut x = random_inputs(&graph, &mut Rng(seed), 0.05).remove(0);
        x.data_mut()[(97 * seed) as usize] = 5.0 + seed as f32 / 4.0;
        vec![x]
    };
    let samples: Vec<_> = (0..16).map(sample).collect();
    let quantizer = Quantizer::from_graph(graph.clone()).unwrap();
    let quantizer = quantizer.calibrate_stream(samples).unwrap();
    let reach = |quantizer: Quantizer| {
        let quantized = quantizer.quantize().unwrap();
        let params = quantized.graph.values[x].quant.clone().unwrap();
        params.dequantize(127, 0)
    };
    assert!(reach(quantizer) > 8.0);
}
