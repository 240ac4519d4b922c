//! Activations behind another node.

use super::*;

#[test]
fn activations_are_fused() {
    let clip = |lo, hi| Op::Clip(Clip { lo, hi });
    let mut graph = net(IMAGE, |net, x| {
        let weight = net.random(&[3, 3, 1, 1]);
        let y = net.node(conv(1, 1), &[x, weight]);
        let y = net.node(RELU, &[y]);
        let y = net.node(clip(-1.0, 6.0), &[y]);
        let y = net.node(ADD, &[y, x]);
        vec![net.node(clip(0.5, 2.0), &[y])]
    });
    assert_eq!(names_after(fuse_activation, &mut graph), "Conv Add");
    assert_eq!(clamps(&graph), [Clip { lo: 0.0, hi: 6.0 }, Clip { lo: 0.5, hi: 2.0 }]);
}

/// Through what only moves the result, unless something else sees it there.
#[test]
fn activations_are_fused_across_moves() {
    let moved = |seen: bool| {
        net(IMAGE, |net, x| {
            let y = net.node(ADD, &[x, x]);
            let y = net.node(Op::Transpose(Transpose { perm: vec![0, 2, 3, 1] }), &[y]);
            let len = IMAGE.iter().product();
            let z = net.node(Op::Reshape(Reshape { shape: vec![1, len] }), &[y]);
            let relu = net.node(RELU, &[z]);
            if seen { vec![relu, y] } else { vec![relu] }
        })
    };
    let mut graph = moved(false);
    assert_eq!(names_after(fuse_activation, &mut graph), "Add Transpose Reshape");
    assert_eq!(clamps(&graph)[0], Clip { lo: 0.0, hi: f32::INFINITY });
    let mut graph = moved(true);
    assert_eq!(names_after(fuse_activation, &mut graph), "Add Transpose Reshape Clip");
}

/// Not into what moves codes or has its own, nor where the value is used twice or quantized, nor two
/// clamps that do not meet.
#[test]
fn other_activations_stay() {
    let max_pool = Op::MaxPool(MaxPool(Window::new([2, 2])));
    for op in [
        max_pool,
        Op::Transpose(Transpose { perm: vec![0, 2, 3, 1] }),
        Op::Softmax(Softmax { axis: 1 }),
    ] {
        let mut graph = net(IMAGE, |net, x| {
            let y = net.node(op.clone(), &[x]);
            vec![net.node(RELU, &[y])]
        });
        assert_eq!(names_after(fuse_activation, &mut graph), format!("{} Clip", op.name()));
    }
    let mut on_the_input = net(IMAGE, |net, x| vec![net.node(RELU, &[x])]);
    assert_eq!(names_after(fuse_activation, &mut on_the_input), "Clip");

    let sum = |used_twice: bool| {
        net(IMAGE, |net, x| {
            let y = net.node(ADD, &[x, x]);
            let relu = net.node(RELU, &[y]);
            if used_twice { vec![relu, y] } else { vec![relu] }
        })
    };
    assert_eq!(names_after(fuse_activation, &mut sum(true)), "Add Clip");
    let mut quantized = sum(false);
    let y = quantized.nodes[0].output;
    quantized.values[y].quant = Some(QuantParams::per_tensor(0.5, 0, Width::W8));
    assert_eq!(names_after(fuse_activation, &mut quantized), "Add Clip");

    let mut apart = sum(false);
    apart.nodes[0].clamp = Clip { lo: -2.0, hi: -1.0 };
    assert_eq!(names_after(fuse_activation, &mut apart), "Add Clip");
}
