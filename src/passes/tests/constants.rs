//! Nodes of constants.

use super::*;

#[test]
fn constants_are_folded() {
    let mut graph = net(&[2, 3], |net, x| {
        let (a, b) = (net.random(&[3, 1]), net.random(&[5]));
        let sum = net.node(ADD, &[a, b]);
        net.graph.nodes[0].clamp = Clip { lo: -0.5, hi: 0.5 };
        let weight = net.node(Op::Transpose(Transpose { perm: vec![0, 1] }), &[sum]);
        vec![net.node(LINEAR, &[x, weight])]
    });
    assert_eq!(names_after(fold_constants, &mut graph), "Linear");
}

#[test]
fn a_network_of_constants_needs_no_node() {
    let mut graph = net(&[1], |net, _| {
        let a = net.random(&[3]);
        vec![net.node(RELU, &[a])]
    });
    assert_eq!(names_after(prepare, &mut graph), "");
    assert_eq!((graph.values.len(), graph.inputs.len(), graph.outputs.len()), (2, 1, 1));
}

#[test]
fn codes_are_not_folded() {
    let mut graph = net(&[3], |net, _| {
        let a = net.random(&[3]);
        vec![net.node(RELU, &[a])]
    });
    let a = graph.nodes[0].inputs[0];
    let codes = crate::codes::CodeTensor::I8(Tensor::from_vec(vec![1, 2, 3]));
    graph.values[a].constant = Some(crate::graph::Constant::Codes(codes));
    graph.values[a].quant = Some(QuantParams::per_tensor(0.5, 0, Width::W8));
    assert_eq!(names_after(fold_constants, &mut graph), "Clip");
}
