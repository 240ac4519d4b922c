//! A node as rows of weights, and what they are multiplied with.

use crate::graph::{Graph, Node, ValueId};
use crate::ops::{Op, Window, image};
use crate::tensor::Tensor;

/// A layer whose results are sums of `depth` products, one row of weights for each output channel.
pub(super) struct Layer {
    /// The node.
    pub index: usize,
    /// What it multiplies.
    pub x: ValueId,
    /// Numbers that a row is multiplied with.
    pub depth: usize,
    /// Groups of channels; each has inputs and rows of its own.
    pub groups: usize,
    /// Number of rows.
    pub rows: usize,
    /// For each weight of the rows its place in the constant.
    pub places: Vec<usize>,
    /// Whether its bias makes up for a shifted mean, see [`BiasCorrection`](crate::quantize::BiasCorrection).
    pub has_mean: bool,
    /// Shape of the input, and of the output where there is a window.
    shape: [usize; 4],
    window: Option<(Window, [usize; 2])>,
}

impl Layer {
    /// Node `index`, if it is a convolution or a linear layer of real weights.
    pub fn new(graph: &Graph, index: usize) -> Option<Self> {
        let node: &Node = &graph.nodes[index];
        let real = graph.real_constant(*node.inputs.get(1)?)?;
        let x = node.inputs[0];
        let shape = &graph.values[x].shape;
        let places = |strides: (usize, usize), [rows, depth]: [usize; 2]| {
            (0..rows * depth).map(|i| i / depth * strides.0 + i % depth * strides.1).collect()
        };
        match &node.op {
            Op::Conv(conv) => {
                let [rows, channels, kh, kw] = image(real.shape())?;
                let [_, _, oh, ow] = image(&graph.values[node.output].shape)?;
                let (shape, depth) = (image(shape)?, channels * kh * kw);
                Some(Self {
                    index,
                    x,
                    depth,
                    groups: conv.group,
                    rows,
                    places: places((depth, 1), [rows, depth]),
                    has_mean: true,
                    shape,
                    window: Some((conv.window, [oh, ow])),
                })
            }
            Op::Linear(linear) => {
                let [depth, rows] = linear.channels(real.shape())?;
                let strides = if linear.transposed { (depth, 1) } else { (1, rows) };
                let all = shape.iter().product::<usize>() / depth.max(1);
                let places = places(strides, [rows, depth]);
                let has_mean = shape.len() == 2;
                let shape = [all, depth, 1, 1];
                let groups = 1;
                Some(Self { index, x, depth, groups, rows, places, has_mean, shape, window: None })
            }
            _ => None,
        }
    }

    /// Numbers at one position: those of all groups.
    pub fn pitch(&self) -> usize {
        self.groups * self.depth
    }

    /// Positions of a sample at which a result is computed.
    pub fn positions(&self) -> usize {
        self.shape[0] * self.window.map_or(1, |(_, [oh, ow])| oh * ow)
    }

    /// What the rows of all groups are multiplied with at one position.
    pub fn gather(&self, x: &Tensor<f32>, position: usize, to: &mut [f32]) {
        let [_, channels, h, w] = self.shape;
        let Some((window, [oh, ow])) = self.window else {
            return to.copy_from_slice(&x.data()[position * self.depth..][..self.depth]);
        };
        let (image, oy, ox) = (position / (oh * ow), position / ow % oh, position % ow);
        let [kh, kw] = window.kernel;
        for (tap, (ky, kx)) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))).enumerate() {
            let place = window.position(0, oy, ky, h).zip(window.position(1, ox, kx, w));
            for c in 0..channels {
                let plane = (image * channels + c) * h;
                to[c * kh * kw + tap] =
                    place.map_or(0.0, |(iy, ix)| x.data()[(plane + iy) * w + ix]);
            }
        }
    }
}
