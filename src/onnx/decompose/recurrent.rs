//! Recurrent layers, step by step: each is made of the operators by which it is defined.
//!
//! <https://onnx.ai/onnx/operators/onnx__GRU.html>, and LSTM and RNN there.

use super::Steps;
use crate::error::{Result, bail};
use crate::graph::ValueId;
use crate::onnx::importer::Known;
use crate::ops::Op;
use crate::ops::add::Add;
use crate::ops::clip::Clip;
use crate::ops::concat::Concat;
use crate::ops::linear::Linear;
use crate::ops::mul::Mul;
use crate::ops::slice::Slice;
use crate::ops::transpose::Transpose;
use crate::ops::unary::Unary;
use crate::tensor::{Shape, Tensor};

/// Most steps of both directions: each is some ten nodes.
const MAX_STEPS: usize = 512;

/// One direction of a layer.
struct Cell {
    op_type: String,
    hidden: usize,
    /// Weights `[.., gates · hidden]` and biases of the input and of the state before.
    of_input: [Tensor<f32>; 2],
    of_state: [Tensor<f32>; 2],
    /// What is done to gates, to candidates, and to the cell's state.
    functions: Vec<Op>,
    /// GRU only: the gate is applied behind the product.
    reset_last: bool,
}

/// The states of a layer behind each step, and that of a cell behind the last.
struct Run {
    states: Vec<ValueId>,
    last: ValueId,
    cell: Option<ValueId>,
}

pub(super) fn recurrent(steps: &mut Steps, x: ValueId) -> Result<()> {
    let op_type = steps.proto.op_type.clone();
    let batch_first = steps.node.take_flag("layout")?;
    let x = if batch_first { transposed(steps, x, &[1, 0, 2])? } else { x };
    let &[length, batch, _] = steps.shape(x) else {
        bail!(Shape, "expected an input of rank 3, got {:?}", steps.shape(x));
    };
    let forward = match steps.node.take_string("direction")?.as_deref().unwrap_or("forward") {
        "forward" => vec![true],
        "reverse" => vec![false],
        "bidirectional" => vec![true, false],
        other => bail!(Invalid, "attribute \"direction\" is \"{other}\""),
    };
    if length * forward.len() > MAX_STEPS {
        bail!(Unsupported, "{} steps, more than {MAX_STEPS}", length * forward.len());
    }
    if let Some(lengths) = steps.node.take_input_ints(4)?
        && lengths.iter().any(|&l| l != length as i64)
    {
        bail!(Unsupported, "sequences of lengths {lengths:?}, {length} steps");
    }
    if steps.proto.input.get(7).is_some_and(|name| !name.is_empty()) {
        bail!(Unsupported, "peepholes, input \"{}\"", steps.proto.input[7]);
    }
    let cells = cells(steps, forward.len())?;
    let mut runs = Vec::new();
    for (direction, (cell, &forward)) in cells.iter().zip(&forward).enumerate() {
        let state = initial(steps, 5, direction, batch_first)?;
        let inner =
            if op_type == "LSTM" { initial(steps, 6, direction, batch_first)? } else { None };
        runs.push(cell.run(steps, x, forward, [state, inner])?);
    }
    let hidden = cells[0].hidden;
    for (index, output) in steps.proto.output.iter().enumerate() {
        if output.is_empty() || !steps.importer.read.contains(output.as_str()) {
            continue;
        }
        let mut parts = Vec::new();
        for run in &runs {
            parts.push(match (index, run.cell) {
                (0, _) => {
                    let states: Vec<ValueId> = run
                        .states
                        .iter()
                        .map(|&state| steps.reshape(state, vec![1, 1, batch, hidden]))
                        .collect::<Result<_>>()?;
                    joined(steps, 0, states)?
                }
                (1, _) => steps.reshape(run.last, vec![1, batch, hidden])?,
                (_, Some(cell)) => steps.reshape(cell, vec![1, batch, hidden])?,
                (_, None) => bail!(Invalid, "output \"{output}\" is one too many"),
            });
        }
        let axis = (index == 0) as usize;
        let mut y = joined(steps, axis, parts)?;
        if batch_first {
            y = transposed(steps, y, if index == 0 { &[2, 0, 1, 3] } else { &[1, 0, 2] })?;
        }
        steps.finish(y, output)?;
    }
    Ok(())
}

/// The numbers of a constant argument.
fn constant(steps: &mut Steps, index: usize) -> Result<Option<Tensor<f32>>> {
    let Some(v) = steps.value(index)? else { return Ok(None) };
    let value = &steps.importer.graph.values[v];
    let Some(real) = value.to_real().map(|real| real.into_owned()) else {
        bail!(Unsupported, "\"{}\" must be a constant", value.name);
    };
    // Each direction has a part of it; a bias is added up.
    steps.importer.folding.take(real.shape(), 0)?;
    Ok(Some(real))
}

fn cells(steps: &mut Steps, directions: usize) -> Result<Vec<Cell>> {
    let op_type = steps.proto.op_type.clone();
    let (gates, defaults): (usize, &[&str]) = match op_type.as_str() {
        "LSTM" => (4, &["Sigmoid", "Tanh", "Tanh"]),
        "GRU" => (3, &["Sigmoid", "Tanh"]),
        _ => (1, &["Tanh"]),
    };
    let reset_last = op_type == "GRU" && steps.node.take_flag("linear_before_reset")?;
    let size = steps.node.take_int("hidden_size")?;
    let names = steps.node.take_strings("activations")?;
    let names = names.unwrap_or_else(|| {
        defaults.iter().cycle().take(defaults.len() * directions).map(|n| n.to_string()).collect()
    });
    let functions: Vec<Op> = names.iter().map(|name| function(name)).collect::<Result<_>>()?;
    if functions.len() != defaults.len() * directions {
        bail!(Invalid, "{} activations for {directions} directions", functions.len());
    }
    let (Some(w), Some(r)) = (constant(steps, 1)?, constant(steps, 2)?) else {
        bail!(Invalid, "the weights are missing");
    };
    let b = constant(steps, 3)?;
    let hidden = r.shape().last().copied().unwrap_or(0);
    let rows = gates * hidden;
    let &[_, _, inputs] = w.shape() else { bail!(Shape, "weights of shape {:?}", w.shape()) };
    if w.shape() != [directions, rows, inputs]
        || r.shape() != [directions, rows, hidden]
        || b.as_ref().is_some_and(|b| b.shape() != [directions, 2 * rows])
        || hidden == 0
        || size.is_some_and(|size| size != hidden as i64)
    {
        let bias = b.as_ref().map(Tensor::shape);
        bail!(Shape, "weights of shapes {:?}, {:?} and {bias:?}", w.shape(), r.shape());
    }
    let cell = |direction: usize| {
        let part = |t: &Tensor<f32>, width: usize| {
            let len = rows * width;
            let data = t.data()[direction * len..(direction + 1) * len].to_vec();
            Tensor::new([rows, width], data).map(|t| t.transpose(&[1, 0]))
        };
        let mut biases = [vec![0.0; rows], vec![0.0; rows]];
        if let Some(b) = &b {
            let both = &b.data()[direction * 2 * rows..(direction + 1) * 2 * rows];
            for (i, (&of_input, &of_state)) in both[..rows].iter().zip(&both[rows..]).enumerate() {
                // What is multiplied by a gate stays apart, all others are added once.
                let apart = reset_last && i >= 2 * hidden;
                biases[0][i] = if apart { of_input } else { of_input + of_state };
                biases[1][i] = if apart { of_state } else { 0.0 };
            }
        }
        let [of_input, of_state] = biases.map(Tensor::from_vec);
        let count = defaults.len();
        Ok(Cell {
            op_type: op_type.clone(),
            hidden,
            of_input: [part(&w, inputs)?, of_input],
            of_state: [part(&r, hidden)?, of_state],
            functions: functions[direction * count..(direction + 1) * count].to_vec(),
            reset_last,
        })
    };
    (0..directions).map(cell).collect()
}

fn function(name: &str) -> Result<Op> {
    Ok(match name {
        "Relu" => Op::Clip(Clip::RELU),
        "Sigmoid" => Op::Unary(Unary::Sigmoid),
        "Tanh" => Op::Unary(Unary::Tanh),
        other => bail!(Unsupported, "activation \"{other}\""),
    })
}

/// What argument `index` says that a direction begins with: nothing, if all is 0.
fn initial(
    steps: &mut Steps,
    index: usize,
    direction: usize,
    batch_first: bool,
) -> Result<Option<ValueId>> {
    let Some(v) = steps.value(index)? else { return Ok(None) };
    let real = steps.importer.graph.real_constant(v);
    if real.is_some_and(|t| t.data().iter().all(|&x| x == 0.0)) {
        return Ok(None);
    }
    let v = if batch_first { transposed(steps, v, &[1, 0, 2])? } else { v };
    let &[_, batch, hidden] = steps.shape(v) else {
        bail!(Shape, "a state of shape {:?}", steps.shape(v));
    };
    let v = sliced(steps, v, 0, direction, 1)?;
    steps.reshape(v, vec![batch, hidden]).map(Some)
}

fn transposed(steps: &mut Steps, v: ValueId, perm: &[usize]) -> Result<ValueId> {
    if steps.shape(v).len() != perm.len() {
        bail!(Shape, "expected rank {}, got {:?}", perm.len(), steps.shape(v));
    }
    steps.step(Op::Transpose(Transpose { perm: perm.to_vec() }), &[v])
}

fn sliced(steps: &mut Steps, v: ValueId, axis: usize, start: usize, len: usize) -> Result<ValueId> {
    let slice = Slice::of(steps.shape(v), axis, start, len);
    steps.step(Op::Slice(slice), &[v])
}

fn joined(steps: &mut Steps, axis: usize, parts: Vec<ValueId>) -> Result<ValueId> {
    match parts[..] {
        [one] => Ok(one),
        _ => steps.step(Op::Concat(Concat { axis }), &parts),
    }
}

fn multiply(steps: &mut Steps, a: ValueId, b: ValueId) -> Result<ValueId> {
    steps.step(Op::Mul(Mul), &[a, b])
}

fn subtract(steps: &mut Steps, a: ValueId, b: ValueId) -> Result<ValueId> {
    steps.step(Op::Add(Add { subtract: true }), &[a, b])
}

impl Cell {
    fn run(
        &self,
        steps: &mut Steps,
        x: ValueId,
        forward: bool,
        [mut state, mut inner]: [Option<ValueId>; 2],
    ) -> Result<Run> {
        let length = steps.shape(x)[0];
        let [of_input, of_state] =
            [&self.of_input, &self.of_state].map(|[weight, bias]| -> Result<Weights> {
                let weight = steps.constant(weight.shape().to_vec(), weight.data().to_vec())?;
                let is_zero = bias.data().iter().all(|&b| b == 0.0);
                let bias = match is_zero {
                    true => None,
                    false => Some(steps.constant(bias.shape().to_vec(), bias.data().to_vec())?),
                };
                Ok((weight, bias))
            });
        let (of_input, of_state) = (of_input?, of_state?);
        let all = linear(steps, x, of_input)?;
        let mut states = Vec::new();
        for t in 0..length {
            let t = if forward { t } else { length - 1 - t };
            let x = sliced(steps, all, 0, t, 1)?;
            let shape: Shape = steps.shape(x)[1..].to_vec();
            let x = steps.reshape(x, shape)?;
            let next = match self.op_type.as_str() {
                "GRU" => self.gated(steps, x, state, of_state)?,
                "LSTM" => {
                    let (next, cell) = self.long_short(steps, x, state, inner, of_state)?;
                    inner = Some(cell);
                    next
                }
                _ => {
                    let sum = self.with_state(steps, x, state, of_state)?;
                    steps.step(self.functions[0].clone(), &[sum])?
                }
            };
            states.push(next);
            state = Some(next);
        }
        let Some(&last) = states.last() else { bail!(Invalid, "no step") };
        if !forward {
            states.reverse();
        }
        Ok(Run { states, last, cell: inner })
    }

    /// What the input gives, and the state before.
    fn with_state(
        &self,
        steps: &mut Steps,
        x: ValueId,
        state: Option<ValueId>,
        weights: Weights,
    ) -> Result<ValueId> {
        let Some(state) = state else { return Ok(x) };
        let h = linear(steps, state, weights)?;
        steps.add(x, h)
    }

    /// `h' = n + z · (h − n)`
    fn gated(
        &self,
        steps: &mut Steps,
        x: ValueId,
        state: Option<ValueId>,
        (weight, bias): Weights,
    ) -> Result<ValueId> {
        let n = self.hidden;
        let (mut gates, mut candidate) =
            (sliced(steps, x, 1, 0, 2 * n)?, sliced(steps, x, 1, 2 * n, n)?);
        let mut behind = None;
        match state {
            Some(state) if self.reset_last => {
                let h = linear(steps, state, (weight, bias))?;
                let of_gates = sliced(steps, h, 1, 0, 2 * n)?;
                gates = steps.add(gates, of_gates)?;
                behind = Some(sliced(steps, h, 1, 2 * n, n)?);
            }
            Some(state) => {
                let of_gates = sliced(steps, weight, 1, 0, 2 * n)?;
                let h = linear(steps, state, (of_gates, None))?;
                gates = steps.add(gates, h)?;
            }
            None => {
                if let Some(bias) = bias {
                    let bias = sliced(steps, bias, 0, 2 * n, n)?;
                    behind = Some(steps.reshape(bias, vec![1, n])?);
                }
            }
        }
        let gates = steps.step(self.functions[0].clone(), &[gates])?;
        let update = sliced(steps, gates, 1, 0, n)?;
        if behind.is_some() || state.is_some() {
            let reset = sliced(steps, gates, 1, n, n)?;
            let added = match (behind, state) {
                (Some(behind), _) => multiply(steps, reset, behind)?,
                (None, Some(state)) => {
                    let kept = multiply(steps, reset, state)?;
                    let weight = sliced(steps, weight, 1, 2 * n, n)?;
                    linear(steps, kept, (weight, None))?
                }
                (None, None) => reset,
            };
            candidate = steps.add(candidate, added)?;
        }
        let candidate = steps.step(self.functions[1].clone(), &[candidate])?;
        match state {
            Some(state) => {
                let difference = subtract(steps, state, candidate)?;
                let kept = multiply(steps, update, difference)?;
                steps.add(candidate, kept)
            }
            None => {
                let lost = multiply(steps, update, candidate)?;
                subtract(steps, candidate, lost)
            }
        }
    }

    /// The next state, and that of the cell: `c' = f · c + i · n`, `h' = o · tanh(c')`.
    fn long_short(
        &self,
        steps: &mut Steps,
        x: ValueId,
        state: Option<ValueId>,
        inner: Option<ValueId>,
        weights: Weights,
    ) -> Result<(ValueId, ValueId)> {
        let n = self.hidden;
        let sum = self.with_state(steps, x, state, weights)?;
        let gates = sliced(steps, sum, 1, 0, 3 * n)?;
        let gates = steps.step(self.functions[0].clone(), &[gates])?;
        let candidate = sliced(steps, sum, 1, 3 * n, n)?;
        let candidate = steps.step(self.functions[1].clone(), &[candidate])?;
        let input = sliced(steps, gates, 1, 0, n)?;
        let mut cell = multiply(steps, input, candidate)?;
        if let Some(inner) = inner {
            let forget = sliced(steps, gates, 1, 2 * n, n)?;
            let kept = multiply(steps, forget, inner)?;
            cell = steps.add(kept, cell)?;
        }
        let output = sliced(steps, gates, 1, n, n)?;
        let bounded = steps.step(self.functions[2].clone(), &[cell])?;
        Ok((multiply(steps, output, bounded)?, cell))
    }
}

/// A weight `[in, out]`, and perhaps a bias.
type Weights = (ValueId, Option<ValueId>);

fn linear(steps: &mut Steps, x: ValueId, (weight, bias): Weights) -> Result<ValueId> {
    let inputs: Vec<ValueId> = [x, weight].into_iter().chain(bias).collect();
    steps.step(Op::Linear(Linear { transposed: false }), &inputs)
}

impl Steps<'_, '_> {
    /// `v` is called `output`, and so is the node that makes it.
    fn finish(&mut self, v: ValueId, output: &str) -> Result<()> {
        match self.importer.graph.nodes.last_mut().filter(|node| node.output == v) {
            Some(node) => {
                node.name = output.into();
                self.importer.rename(v, output.into());
            }
            None if self.importer.outputs.contains(output) => {
                self.importer.name_output(v, output)?;
            }
            None => {}
        }
        self.importer.define(output, Known::Value(v))
    }
}
