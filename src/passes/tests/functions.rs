//! Functions of one value that are spelled out.

use super::*;

/// `x · sigmoid(x)` and its like, as exporters spell them out.
fn spelled_functions(net: &mut Net, x: usize) -> Vec<usize> {
    let sigmoid = unary(net, Unary::Sigmoid, x);
    let silu = net.node(MUL, &[x, sigmoid]);
    let scaled = with(net, MUL, x, std::f32::consts::FRAC_1_SQRT_2);
    let erf = unary(net, Unary::Erf, scaled);
    let one = number(net, 1.0);
    let sum = net.node(ADD, &[one, erf]);
    let product = net.node(MUL, &[x, sum]);
    let gelu = with(net, MUL, product, 0.5);
    let moved = with(net, ADD, x, 3.0);
    let limited = net.node(Op::Clip(Clip { lo: 0.0, hi: 6.0 }), &[moved]);
    let product = net.node(MUL, &[x, limited]);
    let swish = with(net, MUL, product, 1.0 / 6.0);
    let square = net.node(MUL, &[x, x]);
    let cube = net.node(MUL, &[square, x]);
    let small = with(net, MUL, cube, 0.044715);
    let sum = net.node(ADD, &[x, small]);
    let tanh = unary(net, Unary::Tanh, sum);
    vec![silu, gelu, swish, net.node(MUL, &[x, tanh])]
}

#[test]
fn functions_that_are_spelled_out_become_one_node() {
    let mut graph = net(&[2, 3, 8], spelled_functions);
    let inputs = random_inputs(&graph, &mut Rng(5), 4.0);
    let (before, _) = run_float(&graph, &inputs);
    let names = names_after(prepare, &mut graph);
    assert_eq!(names, ["Function"; 4].join(" "));
    // Each step is the float network's own.
    assert_eq!(run_float(&graph, &inputs).0, before);
}

/// As one table, with one rounding, at 8 bits and at 16; and a file says the same.
#[test]
fn a_function_that_is_spelled_out_is_rounded_once() {
    let mut graph = net(&[1, 64], spelled_functions);
    prepare(&mut graph);
    let inputs = random_inputs(&graph, &mut Rng(5), 4.0);
    let (outputs, ranges) = run_float(&graph, &inputs);
    for scheme in crate::testing::SCHEMES {
        let quantized = crate::testing::quantize::quantize(&graph, &ranges, scheme).unwrap();
        let (_, integer) = crate::testing::quantize::export_checked(&quantized).unwrap();
        assert_eq!(integer.nodes.len(), 4);
        let got = crate::testing::exec::int::IntExecutor::new(&integer).run(&inputs).unwrap();
        let x = quantized.values[quantized.inputs[0]].quant.as_ref().unwrap();
        for ((got, expected), &v) in got.iter().zip(&outputs).zip(&quantized.outputs) {
            let y = quantized.values[v].quant.as_ref().unwrap();
            for (got, expected) in got.data().iter().zip(expected.data()) {
                // The slopes are at most 3.
                let most = 0.51 * y.scale[0] + 1.6 * x.scale[0];
                assert!((got - expected).abs() <= most, "{scheme:?}: {got}, not {expected}");
            }
        }
    }
}

/// Limits behind a function that others see, too, and functions of more steps than one table takes.
#[test]
fn functions_are_read_again_as_they_were_written() {
    let relu = Op::Clip(Clip::RELU);
    let limits = Op::Clip(Clip { lo: -0.25, hi: 0.5 });
    type Function = fn(&mut Net, usize) -> usize;
    let functions: [Function; 5] = [
        |net, x| unary(net, Unary::Tanh, x),
        |net, x| net.node(MUL, &[x, x]),
        |net, x| with(net, MUL, x, 0.75),
        |net, x| {
            let y = unary(net, Unary::Sigmoid, x);
            net.node(MUL, &[x, y])
        },
        |net, x| {
            (0..80).fold(x, |x, i| match i % 2 {
                0 => with(net, ADD, x, 0.01),
                _ => with(net, MUL, x, 0.99),
            })
        },
    ];
    for (i, function) in functions.into_iter().enumerate() {
        for limit in [&relu, &limits] {
            let mut graph = net(&[1, 64], |net, x| {
                let y = function(net, x);
                vec![y, net.node(limit.clone(), &[y])]
            });
            let inputs = random_inputs(&graph, &mut Rng(5), 2.0);
            let (before, _) = run_float(&graph, &inputs);
            prepare(&mut graph);
            let (after, ranges) = run_float(&graph, &inputs);
            assert_eq!(after, before, "{i}");
            for scheme in crate::testing::SCHEMES {
                let quantized =
                    crate::testing::quantize::quantize(&graph, &ranges, scheme).unwrap();
                crate::testing::quantize::export_checked(&quantized)
                    .unwrap_or_else(|e| panic!("{i}, {limit:?}: {e}"));
            }
        }
    }
}

#[test]
fn what_others_see_or_what_has_two_arguments_is_no_step_of_a_function() {
    let sigmoid = Op::Unary(Unary::Sigmoid);
    let check = |expected: &str, build: &dyn Fn(&mut Net, usize) -> Vec<usize>| {
        let mut graph = net(&[2, 4], build);
        assert_eq!(names_after(fuse_functions, &mut graph), expected);
    };
    // A sum of two values is where a function begins.
    check("Softmax Add Function", &|net, x| {
        let other = net.node(Op::Softmax(Softmax { axis: 1 }), &[x]);
        let sum = net.node(ADD, &[x, other]);
        let y = net.node(sigmoid.clone(), &[sum]);
        vec![net.node(MUL, &[sum, y])]
    });
    // An output stays; what follows is a function of the same argument.
    check("Unary Function", &|net, x| {
        let y = net.node(sigmoid.clone(), &[x]);
        vec![y, net.node(MUL, &[y, x])]
    });
    // Constants that differ from element to element.
    check("Add Unary", &|net, x| {
        let by = net.random(&[4]);
        let sum = net.node(ADD, &[x, by]);
        vec![net.node(sigmoid.clone(), &[sum])]
    });
    // Codes of its own.
    let mut graph = net(&[2, 4], |net, x| {
        let y = net.node(sigmoid.clone(), &[x]);
        net.graph.values[y].quant = Some(QuantParams::per_tensor(0.1, 0, Width::W8));
        vec![net.node(sigmoid.clone(), &[y])]
    });
    assert_eq!(names_after(fuse_functions, &mut graph), "Unary Unary");
    // A long chain is cut.
    let mut graph =
        net(&[1], |net, x| vec![(0..200).fold(x, |x, _| net.node(sigmoid.clone(), &[x]))]);
    assert_eq!(names_after(fuse_functions, &mut graph), "Function Function Function Function");
}
