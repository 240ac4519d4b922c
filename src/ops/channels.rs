//! How the channels of a result come from those of the arguments: what factors of channels need to know.

use super::elements;

/// What becomes of positive factors of the channels (axis 1) of an operator's arguments.
#[derive(Clone, Debug, PartialEq)]
pub enum Channels {
    /// Nothing that is known: no channel of an argument or of the result may have a factor.
    Fixed,
    /// Channel `c` of the result has a factor if all that it is made of has the same one.
    Made {
        /// For each channel of the result, arguments and their channels.
        of: Vec<Vec<(usize, usize)>>,
        /// What is left of the energy of noise that is not the same everywhere.
        gain: f64,
    },
    /// Any factors of argument and result, since those go into the weights (argument 1) and biases (argument 2).
    Weighted(Filters),
}

/// Where the weights of a sum of products lie: `[outer, inner, taps]` with input and output channels, one of them along
/// `outer`, the other, those of one group, along `inner`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filters {
    /// Sizes of the axes.
    pub shape: [usize; 3],
    /// Channels are divided into so many groups.
    pub group: usize,
    /// Input channels lie along the first axis.
    pub inputs_first: bool,
}

impl Filters {
    /// Output and input channel of weight `index`.
    pub fn place(&self, index: usize) -> (usize, usize) {
        let [outer, inner, taps] = self.shape;
        let (a, b) = (index / (inner * taps).max(1), index / taps.max(1) % inner.max(1));
        let other = a / (outer / self.group).max(1) * inner + b;
        if self.inputs_first { (other, a) } else { (a, other) }
    }
}

impl Channels {
    /// Each channel is made of the same one of every argument.
    pub fn same(inputs: &[&[usize]], output: &[usize]) -> Self {
        let Some(&channels) = output.get(1) else { return Self::Fixed };
        let fits = |x: &&[usize]| x.len() == output.len() && (x[1] == channels || x[1] == 1);
        if !inputs.iter().all(fits) {
            return Self::Fixed;
        }
        let of = |c: usize| inputs.iter().enumerate().map(move |(i, x)| (i, c.min(x[1] - 1)));
        Self::Made { of: (0..channels).map(|c| of(c).collect()).collect(), gain: 1.0 }
    }

    /// As [`same`](Self::same), each element the mean of `count`.
    pub fn mean(inputs: &[&[usize]], output: &[usize], count: usize) -> Self {
        match Self::same(inputs, output) {
            Self::Made { of, .. } => Self::Made { of, gain: 1.0 / count.max(1) as f64 },
            other => other,
        }
    }

    /// Channel `c` is that of the one argument at `axis[c]`, or nothing but zeros.
    pub fn picked(axis: Option<&Vec<Option<usize>>>) -> Self {
        let Some(axis) = axis else { return Self::Fixed };
        let of = axis.iter().map(|from| from.iter().map(|&c| (0, c)).collect());
        Self::Made { of: of.collect(), gain: 1.0 }
    }

    /// The same elements in the same order under another shape.
    pub fn reshaped(x: &[usize], y: &[usize]) -> Self {
        let (&[_, from, ..], &[_, to, ..]) = (x, y) else { return Self::Fixed };
        let [x_inner, y_inner] = [x, y].map(|shape| elements(&shape[2..]).max(1) as usize);
        let mut of = vec![vec![]; to];
        for i in 0..elements(y) as usize {
            let (c, made_of) = (i / x_inner % from, &mut of[i / y_inner % to]);
            if made_of.last() != Some(&(0, c)) {
                made_of.push((0, c));
            }
        }
        Self::Made { of, gain: 1.0 }
    }
}
