//! One output element of one convolution, worked out on paper: the codes, the products, the sum, the
//! rescaling, the clamp. Uses none of the library's kernels.

use anyhow::{Context, ensure};
use naive_ptq::Tensor;
use naive_ptq::exec::float::FloatExecutor;
use naive_ptq::exec::int::IntExecutor;
use naive_ptq::graph::Graph;
use naive_ptq::lower::{IntGraph, IntNode};
use naive_ptq::ops::IntOp;
use naive_ptq::ops::conv::ConvInt;

/// Prints the sum of the first depthwise convolution for one element of `sample`, and checks it
/// against the reference.
pub fn by_hand(graph: &Graph, integer: &IntGraph, sample: &Tensor<f32>) -> anyhow::Result<()> {
    let (node, conv) = first_depthwise(integer).context("no depthwise convolution")?;
    let (x, y) = codes(integer, node, sample)?;
    let [_, oh, ow, channels] = conv.y_shape;
    let (lo, hi) = conv.acc.clamp;
    // An element that is not clamped, as near to the middle of the image as can be.
    let middle = (oh / 2 * ow + ow / 2) * channels;
    let inside = |i: &usize| y[*i] > lo && y[*i] < hi;
    let element = (middle..y.len()).find(inside).unwrap_or(middle);
    let (oy, ox, c) = (element / channels / ow, element / channels % ow, element % channels);

    let [_, h, w, _] = conv.x_shape;
    let window = &conv.conv.window;
    let [kh, kw] = window.kernel;
    let acc = &conv.acc;
    let zero = acc.x_zero_point as i64;
    say!(
        "Image 0, node \"{}\", row {oy}, column {ox}, channel {c}. Each factor is a code:\n",
        node.name
    );
    say!("  (input - zero point) * weight");
    let mut sum = acc.bias[c] as i64;
    for ky in 0..kh {
        for kx in 0..kw {
            let position = |axis, o, k, size| window.position(axis, o, k, size);
            let (Some(iy), Some(ix)) = (position(0, oy, ky, h), position(1, ox, kx, w)) else {
                continue;
            };
            let code = x[(iy * w + ix) * channels + c] as i64;
            let weight = acc.weight.get((c * kh + ky) * kw + kx) as i64;
            let product = (code - zero) * weight;
            say!("  ({code:4} - {zero:4}) * {weight:4} = {product:7}");
            sum += product;
        }
    }
    say!("  {:>22} {:7}", "bias =", acc.bias[c]);
    say!("  {:>22} {sum:7}", "accumulator =");

    let m = acc.multiplier[c];
    let product = sum * m.significand as i64;
    let exact = product as f64 / 2f64.powi(m.shift as i32);
    let rounded = exact.round_ties_even() as i64;
    let code = (rounded + acc.y_zero_point as i64).clamp(lo as i64, hi as i64);
    say!(
        "\n  rescale   {sum} * {} / 2^{} = {exact:.4}, rounded to {rounded}",
        m.significand,
        m.shift
    );
    say!("  output    {rounded} + zero point {} = {code} (limits {lo} to {hi})", acc.y_zero_point);
    let reference = y[element];
    ensure!(code == reference as i64, "by hand {code}, the reference computed {reference}");
    say!("  reference {reference}: the same");

    let value = &integer.values[node.output];
    let scale = value.quant.scale[0];
    let real = (code as i32 - value.quant.zero_point) as f32 * scale;
    let float = float_value(graph, &value.name, sample, [c, oy, ox])?;
    say!("\n  in real numbers {scale:.6} * ({code} - {}) = {real:.4}", value.quant.zero_point);
    say!("  the float network says {float:.4}; one step of the code is {scale:.4}");
    Ok(())
}

fn first_depthwise(integer: &IntGraph) -> Option<(&IntNode, &ConvInt)> {
    integer.nodes.iter().find_map(|node| match &node.op {
        IntOp::Conv(conv)
            if conv.conv.group == conv.x_shape[3] && conv.conv.group == conv.y_shape[3] =>
        {
            Some((node, conv))
        }
        _ => None,
    })
}

/// Input and output codes of `node`, in the order of memory.
fn codes(
    integer: &IntGraph,
    node: &IntNode,
    sample: &Tensor<f32>,
) -> anyhow::Result<(Vec<i32>, Vec<i32>)> {
    let (mut x, mut y) = (Vec::new(), Vec::new());
    IntExecutor::new(integer).run_codes(std::slice::from_ref(sample), |v, codes| {
        if v == node.inputs[0] {
            x = codes.iter().collect();
        } else if v == node.output {
            y = codes.iter().collect();
        }
        Ok(())
    })?;
    Ok((x, y))
}

/// Element `[0, c, y, x]` of the value called `name` in the float network.
fn float_value(
    graph: &Graph,
    name: &str,
    sample: &Tensor<f32>,
    [c, y, x]: [usize; 3],
) -> anyhow::Result<f32> {
    let mut found = None;
    FloatExecutor::new(graph).run(std::slice::from_ref(sample), |v, tensor| {
        if let (true, &[_, _, h, w]) = (graph.values[v].name == name, tensor.shape()) {
            found = Some(tensor.data()[(c * h + y) * w + x]);
        }
        Ok(())
    })?;
    found.context("the float network has no such value")
}
