use super::*;
use crate::ops::Op;
use crate::quant::Range;
use crate::testing::lower::lower;
use crate::testing::quantize::quantize;
use crate::testing::*;

/// The sum over each window, by the number of its elements.
fn define<T: Number>(op: &Op, inputs: &[Tensor<T>]) -> Fractions<T> {
    by_image(inputs, |inputs| define_image(op, inputs))
}

fn define_image<T: Number>(op: &Op, inputs: &[Tensor<T>]) -> Fractions<T> {
    let Op::AveragePool(AveragePool { window, count_include_pad }) = op else { unreachable!() };
    let x = &inputs[0];
    let [rows, columns] = [0, 1].map(|axis| taps(window, axis, x.shape()[axis + 2]));
    tabulate(&[x.shape()[0], x.shape()[1], rows.len(), columns.len()], |y| {
        let (mut sum, mut inside, mut all) = (T::from(0), 0, 0);
        for iy in &rows[y[2]] {
            for ix in &columns[y[3]] {
                all += 1;
                if let (Some(iy), Some(ix)) = (*iy, *ix) {
                    inside += 1;
                    sum = sum + at(x, &[y[0], y[1], iy, ix]);
                }
            }
        }
        (sum, T::from(if *count_include_pad { all } else { inside }))
    })
}

fn pool(window: Window, count_include_pad: bool, x: &[usize]) -> Case {
    case(Op::AveragePool(AveragePool { window, count_include_pad }), &[x])
}

#[test]
fn equals_the_definition() {
    let plain = Window::new;
    let mut cases = vec![
        // The whole image: 1x1 output.
        pool(plain([1, 1]), false, &[1, 1, 1, 1]),
        pool(plain([7, 7]), false, &[1, 17, 7, 7]),
        pool(plain([3, 5]), false, &[2, 3, 3, 5]),
        pool(plain([3, 3]), false, &[1, 3, 5, 4]).clamp(0.0, f32::INFINITY),
        pool(plain([3, 3]), false, &[1, 3, 5, 4]).clamp(0.2, 0.7),
        // Sequences.
        pool(plain([1, 9]), false, &[2, 3, 9]),
        pool(Window { stride: [1, 2], pads: [0, 1, 0, 1], ..plain([1, 3]) }, true, &[1, 17, 8]),
    ];
    for (include, ceil_mode) in [(false, false), (false, true), (true, false), (true, true)] {
        cases.extend(borders(include, ceil_mode));
    }
    check(&cases, define, define);
}

fn borders(include: bool, ceil_mode: bool) -> [Case; 7] {
    let window = |kernel, stride, pads| Window { stride, pads, ceil_mode, ..Window::new(kernel) };
    [
        pool(window([2, 2], [2, 2], [0; 4]), include, &[2, 3, 4, 6]),
        pool(window([2, 2], [2, 2], [0; 4]), include, &[1, 1, 5, 4]),
        pool(window([3, 3], [2, 2], [1; 4]), include, &[1, 17, 6, 7]),
        pool(window([3, 2], [1, 3], [2, 0, 1, 1]), include, &[1, 3, 4, 8]),
        pool(window([2, 3], [3, 2], [0, 2, 1, 2]), include, &[1, 3, 6, 6]),
        pool(window([3, 3], [3, 2], [0, 1, 2, 0]), include, &[1, 3, 6, 4]),
        pool(window([3, 2], [4, 3], [0, 1, 1, 0]), include, &[1, 3, 5, 6]),
    ]
}

/// Windows by hand, over 1 2 3 with one column of padding on either side.
#[test]
fn borders_by_hand() {
    let x = Tensor::new([1, 1, 1, 3], vec![1.0, 2.0, 3.0]).unwrap();
    for (count_include_pad, stride, ceil_mode, expected) in [
        (false, 1, false, &[1.5, 2.0, 2.5][..]),
        (true, 1, false, &[1.0, 2.0, 5.0 / 3.0]),
        (false, 3, false, &[1.5]),
        // The second window holds 3 and one element of padding, then ends.
        (false, 3, true, &[1.5, 3.0]),
        (true, 3, true, &[1.0, 1.5]),
    ] {
        let window =
            Window { stride: [1, stride], pads: [0, 1, 0, 1], ceil_mode, ..Window::new([1, 3]) };
        let y = AveragePool { window, count_include_pad }.eval_f32(&[&x]);
        assert_eq!(y.data(), expected, "{count_include_pad} {stride} {ceil_mode}");
    }
}

/// 1 · 1.5000001 / 3 lies so little above a tie that only the remainder of the division tells.
#[test]
fn division_and_rescaling_round_once() {
    let float = pool(Window::new([1, 3]), false, &[1, 1, 1, 3]).graph(0);
    let ranges = [Some(Range { lo: -1.0, hi: 1.0 }); 2];
    let mut graph = quantize(&float, &ranges, SCHEMES[0]).unwrap();
    for (v, scale) in [(0, 1.5 + f32::EPSILON), (1, 1.0)] {
        graph.values[v].quant.as_mut().unwrap().scale = vec![scale];
    }
    for (code, expected) in [(1, 1), (-1, -1)] {
        let codes = Tensor::new([1, 1, 1, 3], vec![code, 0, 0]).unwrap();
        assert_eq!(run_int(&graph, &[codes]).data(), [expected]);
    }
}

/// What is meant by both attributes depends on the version: it is written in the one that says it.
#[test]
fn padding_behind_the_last_window_is_counted_since_version_19() {
    let window = |stride| Window { stride: [stride; 2], ceil_mode: true, ..Window::new([2, 2]) };
    for (stride, opset) in [(2, 13), (5, 19)] {
        let op = AveragePool { window: window(stride), count_include_pad: true };
        let mut node = op.export(&[&[1, 3, 6, 6]], 13);
        assert_eq!(node.opset.max(13), opset);
        node.inputs = onnx_node("AveragePool", &[&[1, 3, 6, 6]], &[]).inputs;
        node.opset = opset;
        assert_eq!(AveragePool::import(&mut node).unwrap(), op);
    }
}

#[test]
fn attributes_that_are_not_known_are_refused() {
    let node = |name: &str, value: Attribute| {
        let kernel = ("kernel_shape", ints(&[2, 2]));
        onnx_node("AveragePool", &[&[1, 3, 8, 8]], &[kernel, (name, value)])
    };
    check_refusals([
        (onnx_node("AveragePool", &[&[1, 3, 8, 8]], &[]), "kernel_shape"),
        (onnx_node("AveragePool", &[&[1, 3]], &[]), "only 1-D and 2-D are known"),
        (onnx_node("GlobalAveragePool", &[&[1, 3]], &[]), "only 1-D and 2-D are known"),
        (node("count_include_pad", Attribute::Int(2)), "count_include_pad"),
        (node("ceil_mode", Attribute::Int(2)), "ceil_mode"),
        (node("dilations", ints(&[2, 1])), "dilations"),
        (node("kernel_shape", ints(&[3])), "kernel_shape"),
        (
            node("strides", ints(&[7, 7]))
                .with("ceil_mode", Attribute::Int(1))
                .with("count_include_pad", Attribute::Int(1)),
            "attributes \"ceil_mode\" and \"count_include_pad\" are 1",
        ),
    ]);
}

#[test]
fn windows_in_the_padding_are_refused() {
    let window = Window { pads: [2, 0, 0, 0], ..Window::new([2, 2]) };
    let pool = AveragePool { window, count_include_pad: false };
    assert!(
        refused(pool.infer_shape(&[&[1, 1, 4, 4]])).contains("row 0 lies wholly in the padding")
    );
    assert!(refused(pool.infer_shape(&[&[1, 4]])).contains("only 1-D and 2-D are known"));
}

#[test]
fn sums_and_factors_out_of_range_are_refused() {
    let float = pool(Window::new([4096, 4096]), false, &[1, 1, 4096, 4096]).graph(0);
    let ranges = [Some(Range { lo: -1.0, hi: 1.0 }); 2];
    let mut graph = quantize(&float, &ranges, SCHEMES[0]).unwrap();
    assert_eq!(lower(&graph).unwrap().nodes[0].op.acc_bound(), Some(1 << 31));
    graph.values[1].quant.as_mut().unwrap().scale = vec![1e-30];
    let message = refused(lower(&graph));
    assert!(message.starts_with("in node \"n0\" (AveragePool): rescaling factor"), "{message}");
}
