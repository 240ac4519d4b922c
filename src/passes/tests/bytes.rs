//! What a network does to bytes first.

use super::*;

/// What is done to bytes first, one number or one for each channel.
fn affine(net: &mut Net, x: usize, factor: &[f32], offset: &[f32]) -> usize {
    let [factor, offset] = [factor, offset].map(|numbers| {
        let shape = if numbers.len() == 1 { vec![] } else { vec![numbers.len(), 1, 1] };
        net.constant(Tensor::new(shape, numbers.to_vec()).unwrap())
    });
    let scaled = net.node(Op::Mul(Mul), &[x, factor]);
    net.node(ADD, &[scaled, offset])
}

#[test]
fn what_is_done_to_bytes_first_is_how_they_are_read() {
    use crate::quant::Integer::{I8, U8};
    for (of, factor, offset, left, scale, zero) in [
        (U8, 1.0 / 255.0, 0.0, "", 1.0 / 255.0, -128),
        (U8, 1.0 / 128.0, -1.0, "", 1.0 / 128.0, 0),
        (U8, 0.5, 0.5, "Add", 0.5, -128),
        (U8, 1.0 / 127.5, -1.0, "Add", 1.0 / 127.5, -128),
        (U8, 1.0, -300.0, "Add", 1.0, -128),
        (U8, -1.0, 0.0, "Mul Add", 1.0, -128),
        (I8, 1.0 / 255.0, 128.0 / 255.0, "", 1.0 / 255.0, -128),
    ] {
        for moved in [false, true] {
            let mut net = Net::new(8);
            let mut x = net.integers(&[1, 4, 4, 3], of);
            if moved {
                let perm = vec![0, 3, 1, 2];
                x = net.node(Op::Transpose(Transpose { perm }), &[x]);
            }
            let y = affine(&mut net, x, &[factor], &[offset]);
            let y = net.node(RELU, &[y]);
            let mut graph = net.finish(&[y]);
            let names = names_after(fold_input, &mut graph);
            let expected = [if moved { "Transpose" } else { "" }, left, "Clip"];
            let expected: Vec<&str> = expected.into_iter().filter(|s| !s.is_empty()).collect();
            assert_eq!(names, expected.join(" "), "{of:?} {factor} {offset}");
            let params = QuantParams::per_tensor(scale, zero, Width::W8);
            assert_eq!(
                graph.values[graph.inputs[0]].quant,
                Some(params),
                "{of:?} {factor} {offset}"
            );
        }
    }
}

#[test]
fn channels_of_bytes_are_folded_where_padding_stays_0() {
    let (factor, offset) = ([0.1, 0.2, 0.3], [-1.0, 0.0, 2.0]);
    for (offset, pads, group, expected) in [
        (offset, [0; 4], 1, "Conv"),
        (offset, [0; 4], 3, "Conv"),
        ([0.0; 3], [1; 4], 1, "Conv"),
        (offset, [0, 0, 1, 0], 1, "Conv Conv"),
    ] {
        let mut net = Net::new(9);
        let x = net.integers(&[1, 3, 5, 5], crate::quant::Integer::U8);
        let y = affine(&mut net, x, &factor, &offset);
        let weight = net.random(&[6, 3 / group, 3, 3]);
        let window = Window { pads, ..Window::new([3, 3]) };
        let y = net.node(Op::Conv(Conv { window, group }), &[y, weight]);
        let mut graph = net.finish(&[y]);
        assert_eq!(names_after(fold_input, &mut graph), expected, "{pads:?} {group}");
    }
}

#[test]
fn bytes_that_others_read_are_not_read_otherwise() {
    let mut net = Net::new(10);
    let x = net.integers(&[1, 3, 5, 5], crate::quant::Integer::U8);
    let y = affine(&mut net, x, &[0.5], &[1.0]);
    let z = net.node(RELU, &[x]);
    let mut graph = net.finish(&[y, z]);
    assert_eq!(names_after(fold_input, &mut graph), "Mul Add Clip");
    let mut net = Net::new(10);
    let x = net.integers(&[1, 3, 5, 5], crate::quant::Integer::U8);
    let half = net.constant(Tensor::new([], vec![0.5]).unwrap());
    let y = net.node(Op::Mul(Mul), &[x, half]);
    let mut graph = net.finish(&[y]);
    assert_eq!(names_after(fold_input, &mut graph), "Reshape");
}
