//! Additions behind a layer.

use super::*;

#[test]
fn additions_become_biases() {
    for (x, op, weight, old_bias, added, swapped) in [
        (IMAGE, conv(3, 1), &[5, 3, 3, 3][..], false, &[5, 1, 1][..], false),
        (IMAGE, conv(3, 1), &[5, 3, 3, 3], true, &[1, 5, 1, 1], true),
        (IMAGE, conv(1, 3), &[6, 1, 1, 1], true, &[], false),
        (IMAGE, conv(1, 3), &[6, 1, 1, 1], false, &[1, 1], true),
        (&[2, 3], LINEAR, &[3, 4], false, &[4], false),
        (&[2, 3], Op::Linear(Linear { transposed: true }), &[4, 3], false, &[1, 4], true),
        (&[2, 3], LINEAR, &[3, 4], true, &[1], false),
    ] {
        let mut graph = net(x, |net, x| {
            let mut inputs = vec![x, net.random(weight)];
            if old_bias {
                inputs.push(net.random(&[weight[(op == LINEAR) as usize]]));
            }
            let (y, added) = (net.node(op.clone(), &inputs), net.random(added));
            let sum = net.node(ADD, &if swapped { [added, y] } else { [y, added] });
            vec![net.node(RELU, &[sum])]
        });
        graph.nodes[1].clamp = Clip { lo: -1.0, hi: 1.0 };
        let expected = format!("{} Clip", op.name());
        assert_eq!(names_after(fuse_bias, &mut graph), expected, "{op:?} + {added:?}");
        assert_eq!(graph.nodes[0].clamp, Clip { lo: -1.0, hi: 1.0 });
    }
}

#[test]
fn other_additions_stay() {
    for added in [&[4, 1][..], &[1, 1, 4], &[2, 1, 1, 1], &[3, 4, 4], &[3, 1, 3, 1, 1]] {
        let mut graph = net(IMAGE, |net, x| {
            let (weight, added) = (net.random(&[3, 3, 1, 1]), net.random(added));
            let y = net.node(conv(1, 1), &[x, weight]);
            vec![net.node(ADD, &[y, added])]
        });
        assert_eq!(names_after(fuse_bias, &mut graph), "Conv Add", "{added:?}");
    }
    // A result that grows, one that is used twice, one that is clamped, and no constant at all.
    let with = |clamp: Clip, uses: usize, constant: bool| {
        let mut graph = net(&[1, 3, 4, 4], |net, x| {
            let weight = net.random(&[3, 3, 1, 1]);
            let y = net.node(conv(1, 1), &[x, weight]);
            let added = if constant { net.random(&[3, 1, 1]) } else { x };
            [vec![net.node(ADD, &[y, added])], vec![y; uses - 1]].concat()
        });
        graph.nodes[0].clamp = clamp;
        names_after(fuse_bias, &mut graph)
    };
    assert_eq!(with(Clip::NONE, 1, true), "Conv");
    assert_eq!(with(Clip::NONE, 2, true), "Conv Add");
    assert_eq!(with(Clip::RELU, 1, true), "Conv Add");
    assert_eq!(with(Clip::NONE, 1, false), "Conv Add");
    // Channels of a linear layer are the last axis, whatever its rank.
    let mut graph = net(&[2, 5, 3], |net, x| {
        let (weight, added) = (net.random(&[3, 4]), net.random(&[4]));
        let y = net.node(LINEAR, &[x, weight]);
        vec![net.node(ADD, &[y, added])]
    });
    assert_eq!(names_after(fuse_bias, &mut graph), "Linear");
}

#[test]
fn subtractions_are_no_additions() {
    for swapped in [false, true] {
        let mut graph = net(IMAGE, |net, x| {
            let (weight, constant) = (net.random(&[3, 3, 1, 1]), net.random(&[3, 1, 1]));
            let y = net.node(conv(1, 1), &[x, weight]);
            let arguments = if swapped { [constant, y] } else { [y, constant] };
            vec![net.node(Op::Add(Add { subtract: true }), &arguments)]
        });
        names_after(fuse_bias, &mut graph);
    }
}
