//! The sliding window that convolution and pooling share.

use super::onnx_node::{Attribute, MAX_SIZE, OnnxNode, sizes};
use super::{accepted, expect_image, image, of_rank};
use crate::error::{Result, bail};
use crate::tensor::Tensor;

/// More padding than any network has; what lies in it is not worth walking through.
const MAX_PAD: usize = 1 << 12;

/// A window over `[h, w]`; over the one line of a sequence, `[1, w]`. Output position `o` and tap `k` meet input `o · stride + k · dilation − pad`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// `[kh, kw]`.
    pub kernel: [usize; 2],
    /// Step of the window along `[h, w]`.
    pub stride: [usize; 2],
    /// Distance between taps along `[h, w]`.
    pub dilation: [usize; 2],
    /// `[top, left, bottom, right]`.
    pub pads: [usize; 4],
    /// A last window that is only partly inside counts too.
    pub ceil_mode: bool,
}

impl Window {
    /// A window of this kernel with stride and dilation 1, without padding.
    pub fn new(kernel: [usize; 2]) -> Self {
        Self { kernel, stride: [1; 2], dilation: [1; 2], pads: [0; 4], ceil_mode: false }
    }

    /// Takes `kernel_shape`, `strides`, `dilations`, `pads` and `auto_pad`. `kernel` is that of the
    /// weight, where there is one.
    pub fn import(node: &mut OnnxNode, kernel: Option<[usize; 2]>) -> Result<Self> {
        let shape = node.input_shape(0)?.to_vec();
        let [_, _, h, w] = expect_image("input", &shape)?;
        let axes = shape.len() - 2;
        let mut pair = |name| positive(node, name, axes);
        let kernel = match (kernel, pair("kernel_shape")?) {
            (Some(w), Some(k)) if w != k => {
                bail!(Shape, "attribute \"kernel_shape\" is {k:?}, the weight's kernel {w:?}")
            }
            (Some(k), _) | (None, Some(k)) => k,
            (None, None) => bail!(Invalid, "attribute \"kernel_shape\" is missing"),
        };
        let mut window = Self {
            stride: pair("strides")?.unwrap_or([1; 2]),
            dilation: pair("dilations")?.unwrap_or([1; 2]),
            ..Self::new(kernel)
        };
        let pads = node.take_ints("pads")?;
        let auto_pad = node.take_string("auto_pad")?;
        match (auto_pad.as_deref().unwrap_or("NOTSET"), pads) {
            ("NOTSET", None) => {}
            ("NOTSET", Some(pads)) => match (axes, &sizes("pads", &pads)?[..]) {
                (1, &[left, right]) => window.pads = [0, left, 0, right],
                (2, &[top, left, bottom, right]) => window.pads = [top, left, bottom, right],
                _ => {
                    bail!(Invalid, "attribute \"pads\": expected {} sizes, got {pads:?}", 2 * axes)
                }
            },
            ("VALID", pads) if pads.iter().flatten().all(|&p| p == 0) => {}
            (mode @ ("SAME_UPPER" | "SAME_LOWER"), pads)
                if pads.iter().flatten().all(|&p| p == 0) =>
            {
                for (axis, size) in [h, w].into_iter().enumerate() {
                    let out = size.div_ceil(window.stride[axis]);
                    let covered = out.saturating_sub(1) * window.stride[axis] + window.extent(axis);
                    let total = covered.saturating_sub(size);
                    if total >= MAX_SIZE {
                        bail!(Invalid, "attribute \"auto_pad\" asks for a padding of {total}");
                    }
                    let small = total / 2;
                    let begin = if mode == "SAME_UPPER" { small } else { total - small };
                    (window.pads[axis], window.pads[axis + 2]) = (begin, total - begin);
                }
            }
            (mode, None) => bail!(Invalid, "attribute \"auto_pad\" is \"{mode}\""),
            (mode, Some(pads)) => {
                bail!(Invalid, "attributes \"auto_pad\" \"{mode}\" and \"pads\" {pads:?}")
            }
        }
        if let Some(pad) = window.pads.iter().find(|&&pad| pad > MAX_PAD) {
            bail!(Unsupported, "{pad} elements of padding, more than {MAX_PAD}");
        }
        Ok(window)
    }

    /// Adds the attributes that are not ONNX's defaults, for an input of `rank`.
    pub fn export(&self, node: OnnxNode, rank: usize) -> OnnxNode {
        let Self { kernel, stride, dilation, pads, ceil_mode } = self;
        let line = 4 - rank;
        let node = node.with_ints("kernel_shape", &kernel[line..]);
        let node = node.with_ints("strides", &stride[line..]);
        let node = node.with_ints("pads", &[&pads[line..2], &pads[2 + line..]].concat());
        let node = match dilation {
            [1, 1] => node,
            _ => node.with_ints("dilations", &dilation[line..]),
        };
        if *ceil_mode { node.with("ceil_mode", Attribute::Int(1)) } else { node }
    }

    /// Number of input positions between the first and the last tap, both included.
    fn extent(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilation[axis] + 1
    }

    /// `[h, w]` of the result for an input of `[h, w]`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the window does not fit into the padded input.
    pub fn output(&self, size: [usize; 2]) -> Result<[usize; 2]> {
        let mut out = [0; 2];
        for axis in 0..2 {
            let padded = size[axis] + self.pads[axis] + self.pads[axis + 2];
            let Some(free) = padded.checked_sub(self.extent(axis)).filter(|_| size[axis] > 0)
            else {
                let (name, k) = (["height", "width"][axis], self.extent(axis));
                bail!(Shape, "window of {k} does not fit into the padded {name} of {padded}");
            };
            let stride = self.stride[axis];
            out[axis] = if self.ceil_mode { free.div_ceil(stride) } else { free / stride } + 1;
            // A window that would begin in the padding at the end does not count.
            if self.ceil_mode && (out[axis] - 1) * stride >= size[axis] + self.pads[axis] {
                out[axis] -= 1;
            }
        }
        Ok(out)
    }

    /// Shape rule of a pooling operator, `[n, c, h, w]` to `[n, c, oh, ow]`.
    pub fn pooled_shape(&self, input: &[usize]) -> Result<Vec<usize>> {
        let [n, c, h, w] = expect_image("input", input)?;
        let [oh, ow] = self.output([h, w])?;
        for (axis, out, size) in [(0, oh, h), (1, ow, w)] {
            if let Some(o) = (0..out).find(|&o| self.positions(axis, o, size).next().is_none()) {
                let name = ["row", "column"][axis];
                bail!(Unsupported, "the window of output {name} {o} lies wholly in the padding");
            }
        }
        Ok(of_rank(input.len(), [n, c, oh, ow]))
    }

    /// Pools every window of `x`: `f` gets the elements inside the input and the number of elements
    /// inside the padded input.
    pub fn pool(
        &self,
        x: &Tensor<f32>,
        f: impl Fn(&mut dyn Iterator<Item = f32>, usize) -> f32,
    ) -> Tensor<f32> {
        let shape = accepted(self.pooled_shape(x.shape()));
        let (Some([_, _, h, w]), Some([_, _, oh, ow])) = (image(x.shape()), image(&shape)) else {
            unreachable!("shapes are checked before evaluation");
        };
        let mut y = Vec::with_capacity(shape.iter().product());
        for plane in x.data().chunks_exact(h * w) {
            for oy in 0..oh {
                for ox in 0..ow {
                    let padded = self.padded_taps(0, oy, h) * self.padded_taps(1, ox, w);
                    let rows = self.positions(0, oy, h);
                    let mut window = rows
                        .flat_map(|iy| self.positions(1, ox, w).map(move |ix| plane[iy * w + ix]));
                    y.push(f(&mut window, padded));
                }
            }
        }
        Tensor::of(shape, y)
    }

    /// Number of taps of output position `o` that lie inside the padded input.
    fn padded_taps(&self, axis: usize, o: usize, size: usize) -> usize {
        let padded = self.pads[axis] + size + self.pads[axis + 2];
        let room = padded.saturating_sub(o * self.stride[axis]);
        room.div_ceil(self.dilation[axis]).min(self.kernel[axis])
    }

    /// The input position that tap `k` of output position `o` meets along `axis`, if it is inside.
    pub fn position(&self, axis: usize, o: usize, k: usize, size: usize) -> Option<usize> {
        let padded = o * self.stride[axis] + k * self.dilation[axis];
        padded.checked_sub(self.pads[axis]).filter(|&i| i < size)
    }

    /// The input positions inside the window of output position `o` along `axis`.
    pub fn positions(&self, axis: usize, o: usize, size: usize) -> impl Iterator<Item = usize> {
        let (begin, pad) = (o * self.stride[axis], self.pads[axis]);
        let taps_before = |end: usize| end.saturating_sub(begin).div_ceil(self.dilation[axis]);
        let inside = taps_before(pad)..taps_before(pad + size).min(self.kernel[axis]);
        inside.filter_map(move |k| self.position(axis, o, k, size))
    }
}

/// Takes sizes for height and width, at least 1.
fn positive(node: &mut OnnxNode, name: &str, axes: usize) -> Result<Option<[usize; 2]>> {
    let pair = node.take_pair(name, axes, 1)?;
    match pair.filter(|pair| pair.contains(&0)) {
        Some(_) => bail!(Invalid, "attribute \"{name}\": expected sizes of at least 1, got 0"),
        None => Ok(pair),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_sizes_by_hand() {
        let w = Window { stride: [2, 2], pads: [1; 4], ..Window::new([3, 3]) };
        assert_eq!(w.output([28, 7]).unwrap(), [14, 4]);
        let w = Window { stride: [2, 2], ..Window::new([2, 2]) };
        assert_eq!(w.output([5, 4]).unwrap(), [2, 2]);
        assert_eq!(Window { ceil_mode: true, ..w }.output([5, 4]).unwrap(), [3, 2]);
        // The third window would begin in the padding at the end.
        let w =
            Window { stride: [3, 3], pads: [0, 0, 2, 2], ceil_mode: true, ..Window::new([3, 3]) };
        assert_eq!(w.output([6, 6]).unwrap(), [2, 2]);
        let w = Window { dilation: [2, 2], ..Window::new([3, 3]) };
        assert_eq!(w.output([5, 6]).unwrap(), [1, 2]);
        assert!(w.output([4, 4]).is_err());
    }

    #[test]
    fn positions_skip_the_padding() {
        let w = Window { stride: [2, 1], pads: [1, 0, 1, 0], ..Window::new([3, 1]) };
        assert_eq!(w.positions(0, 0, 4).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(w.positions(0, 1, 4).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((w.position(0, 0, 0, 4), w.position(0, 0, 1, 4)), (None, Some(0)));
    }
}
