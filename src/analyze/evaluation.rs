//! How near a network is to its labels and to a reference: each output by what it is.

use std::ops::Range;

use serde::Serialize;

use crate::data::IGNORED;
use crate::error::{Result, bail};
use crate::graph::{Graph, ValueId};
use crate::ops::Op;
use crate::ops::concat::Concat;
use crate::quant::Sqnr;
use crate::tensor::Tensor;

/// How a network did on samples, beside labels and a reference.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evaluation {
    /// Number of samples.
    pub samples: usize,
    /// Share of labels that are the class with the largest number; of the output `[n, classes]` that the labels fit,
    /// `None` if there is none.
    pub top1: Option<f64>,
    /// The same of the reference.
    pub reference_top1: Option<f64>,
    /// Share of rows whose largest number is also the reference's, of the same output.
    pub agreement: Option<f64>,
    /// [`Sqnr`] of the first output against the reference's.
    pub output_sqnr_db: Option<f64>,
    /// Of each output, and of each part of it that a Concat of the reference joins, by itself.
    pub outputs: Vec<OutputEvaluation>,
    /// What looks like a mistake, in words.
    pub notes: Vec<String>,
}

/// How near an output, or a part of it, is to labels and reference.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OutputEvaluation {
    /// Name of the output.
    pub output: String,
    /// Name of the part; `None` for the whole.
    pub part: Option<String>,
    /// Its [`Sqnr`]; `None` without a reference that has this output.
    pub sqnr_db: Option<f64>,
    /// The largest difference of a number from the reference's.
    pub largest_error: Option<f64>,
    /// The mean of these differences.
    pub mean_error: Option<f64>,
    /// The share of equal classes; of an output `[n, classes]` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
    /// What the labels say of it, if it is what they fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labelled: Option<Labelled>,
    /// The same of the reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<Labelled>,
    /// The [`Sqnr`] of each channel, axis 1, where the range of one is more than eight times another's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channels_db: Vec<f64>,
}

/// How near classes are to labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Labelled {
    /// Share of right classes.
    pub right: f64,
    /// Of maps: the mean, over the classes that occur, of the places where a class is both found and right, among those
    /// where it is either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_iou: Option<f64>,
}

/// An output, or a part of it that a Concat joins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    /// Its place among our outputs,
    ours: usize,
    /// and among those of the reference.
    reference: Option<usize>,
    /// The output, and the part.
    names: (String, Option<String>),
    /// Length of a line of the output, and where the part lies in it.
    line: usize,
    within: Range<usize>,
}

impl Part {
    /// Each of our outputs, beside that of the same name of a reference, or else of the same place, and what makes it up
    /// in the float network.
    pub fn of(ours: &[&str], reference: Option<&[&str]>, float: Option<&Graph>) -> Vec<Self> {
        let mut parts = Vec::new();
        for (place, &name) in ours.iter().enumerate() {
            let same = |names: &[&str]| names.iter().position(|other| *other == name);
            let beside = |names: &[&str]| (names.len() == ours.len()).then_some(place);
            let reference = reference.and_then(|names| same(names).or_else(|| beside(names)));
            let names = (name.to_owned(), None);
            let whole = Self { ours: place, reference, names, line: 1, within: 0..1 };
            parts.push(whole.clone());
            let Some((float, &v)) = float.and_then(|g| Some((g, g.outputs.get(reference?)?)))
            else {
                continue;
            };
            let node = float.nodes.iter().find(|node| node.output == v);
            let Some((node, Op::Concat(Concat { axis }))) = node.map(|n| (n, &n.op)) else {
                continue;
            };
            let len = |v: ValueId| float.values[v].shape[*axis..].iter().product::<usize>();
            let mut begin = 0;
            for &argument in &node.inputs {
                let end = begin + len(argument);
                let names = (name.to_owned(), Some(float.values[argument].name.clone()));
                parts.push(Self { names, line: len(v), within: begin..end, ..whole.clone() });
                begin = end;
            }
        }
        parts
    }

    /// Whether a reference has an output that belongs to it.
    pub fn is_compared(&self) -> bool {
        self.reference.is_some()
    }

    /// What one sample shows of it.
    pub fn see(
        &self,
        ours: &[Tensor<f32>],
        reference: Option<&[Tensor<f32>]>,
        labels: Option<&[usize]>,
    ) -> Result<Seen> {
        let y = &ours[self.ours];
        let r = reference.and_then(|all| all.get(self.reference?));
        let mut seen = Seen::default();
        if let Some(r) = r {
            if r.shape() != y.shape() {
                let (name, ours, reference) = (&self.names.0, y.shape(), r.shape());
                bail!(
                    Shape,
                    "output \"{name}\" has shape {ours:?}, that of the reference {reference:?}"
                );
            }
            let [ours, reference] = [y, r].map(|t| t.data().chunks(self.line.max(1)));
            for (y, r) in ours.zip(reference) {
                seen.errors.add(&r[self.within.clone()], &y[self.within.clone()]);
            }
        }
        if self.names.1.is_some() {
            return Ok(seen);
        }
        seen.classes = Classes::of(y, r, labels);
        let is_rows = seen.classes.as_ref().is_some_and(|classes| !classes.is_map);
        match (r, y.shape()) {
            (Some(r), &[_, channels, ref rest @ ..]) if !is_rows && channels > 1 => {
                let run = rest.iter().product();
                seen.channels.resize(channels, Errors::default());
                let runs = r.data().chunks(run).zip(y.data().chunks(run));
                for (i, (r, y)) in runs.enumerate() {
                    seen.channels[i % channels].add(r, y);
                }
            }
            _ => {}
        }
        Ok(seen)
    }

    /// What all samples together show.
    pub fn judge(self, seen: &Seen) -> OutputEvaluation {
        let errors = Some(seen.errors).filter(|errors| errors.count > 0);
        let classes = seen.classes.as_ref();
        let magnitudes = seen.channels.iter().map(|channel| channel.magnitude);
        let most = magnitudes.clone().fold(0.0, f32::max);
        let differ = magnitudes.clone().any(|m| m > 0.0 && most > 8.0 * m);
        let is_rows = classes.is_some_and(|classes| !classes.is_map);
        let channels = seen.channels.iter().filter(|_| differ);
        OutputEvaluation {
            output: self.names.0,
            part: self.names.1,
            sqnr_db: errors.map(|errors| errors.sqnr.db()),
            largest_error: errors.map(|errors| errors.largest as f64),
            mean_error: errors.map(|errors| errors.sum / errors.count as f64),
            agreement: classes.and_then(|c| share(c.agree, c.compared)).filter(|_| is_rows),
            labelled: classes.and_then(|c| c.ours.judge(c)),
            reference: classes.filter(|c| c.compared > 0).and_then(|c| c.reference.judge(c)),
            channels_db: channels.map(|channel| channel.sqnr.db()).collect(),
        }
    }
}

fn share(hits: usize, of: usize) -> Option<f64> {
    (of > 0).then(|| hits as f64 / of as f64)
}

/// What samples show of an output.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    errors: Errors,
    channels: Vec<Errors>,
    /// `None` if it makes no classes.
    classes: Option<Classes>,
}

impl Seen {
    /// Adds what a further sample shows.
    pub fn merge(&mut self, other: Self) {
        self.errors.merge(other.errors);
        for (mine, theirs) in self.channels.iter_mut().zip(other.channels) {
            mine.merge(theirs);
        }
        self.classes = self.classes.take().zip(other.classes).map(|(a, b)| a.merged(b));
    }
}

/// Differences from the reference.
#[derive(Clone, Copy, Debug, Default)]
struct Errors {
    sqnr: Sqnr,
    largest: f32,
    sum: f64,
    count: usize,
    /// Of the reference's numbers.
    magnitude: f32,
}

impl Errors {
    fn add(&mut self, reference: &[f32], x: &[f32]) {
        self.sqnr.add(reference, x);
        self.count += x.len();
        for (r, x) in reference.iter().zip(x) {
            let error = (r - x).abs();
            self.largest = self.largest.max(error);
            self.sum += error as f64;
            self.magnitude = self.magnitude.max(r.abs());
        }
    }

    fn merge(&mut self, other: Self) {
        self.sqnr.merge(other.sqnr);
        self.largest = self.largest.max(other.largest);
        self.sum += other.sum;
        self.count += other.count;
        self.magnitude = self.magnitude.max(other.magnitude);
    }
}

/// The classes that an output makes.
#[derive(Debug, Default)]
struct Classes {
    /// One for each place, and not for a row.
    is_map: bool,
    /// How many there are, and places that have one; both 0 if the output is made of classes itself.
    number: usize,
    compared: usize,
    agree: usize,
    /// Labels that are classes of this network, and that are none.
    labels: usize,
    beyond: usize,
    /// Those that say that nobody knows.
    ignored: usize,
    ours: Hits,
    reference: Hits,
}

#[derive(Debug, Default)]
struct Hits {
    right: usize,
    /// For each class, where it is both found and right, found, right.
    overlaps: Vec<[usize; 3]>,
}

impl Classes {
    /// Those of one sample: of an output `[n, classes]`, or of one that the labels fit.
    fn of(y: &Tensor<f32>, r: Option<&Tensor<f32>>, labels: Option<&[usize]>) -> Option<Self> {
        let hot = labels.and_then(|labels| hot_places(labels, y.shape()));
        let labels = hot.as_deref().or(labels);
        let (how, is_map) = How::of(y, labels.unwrap_or_default())?;
        let number = how.number();
        let ours = how.decide(y);
        let reference = r.map(|r| how.decide(r));
        let mut classes = Self { is_map, number, ..Self::default() };
        if let Some(reference) = &reference {
            classes.compared = ours.len();
            classes.agree = ours.iter().zip(reference).filter(|(a, b)| a == b).count();
        }
        for (place, &label) in
            labels.filter(|labels| labels.len() == ours.len()).into_iter().flatten().enumerate()
        {
            if label == IGNORED {
                classes.ignored += 1;
                continue;
            }
            if number > 0 && label >= number {
                classes.beyond += 1;
                // Where nobody knows, a map has a number like 255; elsewhere it is a fault.
                if is_map {
                    continue;
                }
            }
            classes.labels += 1;
            classes.ours.add(ours[place], label, is_map);
            if let Some(reference) = &reference {
                classes.reference.add(reference[place], label, is_map);
            }
        }
        Some(classes)
    }

    fn merged(mut self, other: Self) -> Self {
        self.compared += other.compared;
        self.agree += other.agree;
        self.labels += other.labels;
        self.beyond += other.beyond;
        self.ignored += other.ignored;
        self.ours.merge(other.ours);
        self.reference.merge(other.reference);
        self
    }
}

/// How a class follows from numbers.
#[derive(Clone, Copy)]
enum How {
    /// It is the number, as an ArgMax gives it.
    Itself,
    /// 1 from a half on, as of a sigmoid.
    Half,
    /// The largest of `number`, each `run` behind the one before.
    Largest { number: usize, run: usize },
}

impl How {
    /// That of an output `[n, classes]`, or of one that the labels fit; whether that has a class for each place.
    fn of(y: &Tensor<f32>, labels: &[usize]) -> Option<(Self, bool)> {
        let (len, all) = (labels.len(), y.data().len());
        let largest = |number, run| Self::Largest { number, run };
        let is_map = y.shape().first().is_some_and(|&rows| len > rows);
        match *y.shape() {
            [number] if len == 1 && number > 1 => return Some((largest(number, 1), false)),
            [_, number, ref rest @ ..] if number > 1 && rest.iter().all(|&size| size == 1) => {
                return Some((largest(number, 1), false));
            }
            [_, number, ref rest @ ..] if number > 1 && len > 1 && all / number == len => {
                return Some((largest(number, rest.iter().product::<usize>()), true));
            }
            [_, _, .., number] if number > 1 && len > 1 && all / number == len => {
                return Some((largest(number, 1), true));
            }
            _ if len != all || len == 0 => return None,
            _ => {}
        }
        let one_of_two = labels.iter().all(|&label| label < 2 || label == IGNORED);
        if one_of_two && y.data().iter().all(|x| (0.0..=1.0).contains(x)) {
            return Some((Self::Half, is_map));
        }
        let whole = y.data().iter().all(|x| x.fract() == 0.0 && *x >= 0.0);
        whole.then_some((Self::Itself, is_map))
    }

    /// Of how many; 0 if that is not known.
    fn number(self) -> usize {
        match self {
            Self::Itself => 0,
            Self::Half => 2,
            Self::Largest { number, .. } => number,
        }
    }

    /// The class of each place.
    fn decide(self, y: &Tensor<f32>) -> Vec<usize> {
        let Self::Largest { number, run } = self else {
            let half = matches!(self, Self::Half);
            let class = |&x: &f32| if half { usize::from(x >= 0.5) } else { x as usize };
            return y.data().iter().map(class).collect();
        };
        let mut classes = Vec::new();
        for map in y.data().chunks(number * run) {
            classes.extend((0..run).map(|at| {
                let of = |class: usize| map[class * run + at];
                (0..number).fold(0, |best, class| if of(class) > of(best) { class } else { best })
            }));
        }
        classes
    }
}

/// The classes of labels that have, for each place of an output of this shape, a 1 for its class and 0 for each other,
/// the classes first or last.
fn hot_places(labels: &[usize], shape: &[usize]) -> Option<Vec<usize>> {
    let &[_, first, ref rest @ ..] = shape else { return None };
    let whole =
        labels.len() == shape.iter().product::<usize>() && labels.iter().all(|&label| label < 2);
    let last = rest.last().filter(|_| whole)?;
    let each = first * rest.iter().product::<usize>();
    // They may lie in another order than those of the output.
    let pairs = [first, *last].into_iter().filter(|&number| number > 1);
    let mut pairs = pairs.flat_map(|number| [(number, each / number), (number, 1)]);
    pairs.find_map(|(number, run)| {
        let hot = |map: &[usize], at: usize| {
            let mut ones = (0..number).filter(|class| map[class * run + at] == 1);
            ones.next().filter(|_| ones.next().is_none())
        };
        let maps = labels.chunks(number * run);
        maps.flat_map(|map| (0..run).map(move |at| hot(map, at))).collect()
    })
}

impl Hits {
    fn add(&mut self, class: usize, label: usize, is_map: bool) {
        self.right += usize::from(class == label);
        // More classes than anybody has labels for are a mistake.
        if is_map && class.max(label) < 1 << 12 {
            let len = self.overlaps.len().max(class.max(label) + 1);
            self.overlaps.resize(len, [0; 3]);
            self.overlaps[class][0] += usize::from(class == label);
            self.overlaps[class][1] += 1;
            self.overlaps[label][2] += 1;
        }
    }

    fn merge(&mut self, other: Self) {
        self.right += other.right;
        let len = self.overlaps.len().max(other.overlaps.len());
        self.overlaps.resize(len, [0; 3]);
        for (mine, theirs) in self.overlaps.iter_mut().zip(other.overlaps) {
            (0..3).for_each(|i| mine[i] += theirs[i]);
        }
    }

    fn judge(&self, classes: &Classes) -> Option<Labelled> {
        let unions = self.overlaps.iter().map(|&[both, found, right]| (both, found + right - both));
        let ious: Vec<f64> = unions.filter_map(|(both, either)| share(both, either)).collect();
        let mean = |ious: &[f64]| ious.iter().sum::<f64>() / ious.len() as f64;
        let mean_iou = (!ious.is_empty()).then(|| mean(&ious));
        Some(Labelled { right: share(self.right, classes.labels)?, mean_iou })
    }
}

impl Evaluation {
    /// Compares outputs, one tensor for each sample, with labels and with a reference's outputs.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if an output has another shape than the reference's.
    pub fn new(
        outputs: &[Tensor<f32>],
        labels: Option<&[usize]>,
        reference: Option<&[Tensor<f32>]>,
    ) -> Result<Self> {
        let names = ["output"];
        let parts = Part::of(&names, reference.map(|_| &names[..]), None);
        let see = |(i, y): (usize, &Tensor<f32>)| {
            let (reference, labels) =
                (reference.map(|all| &all[i..=i]), labels.map(|all| &all[i..=i]));
            Ok(vec![parts[0].see(std::slice::from_ref(y), reference, labels)?])
        };
        let each: Vec<Vec<Seen>> = outputs.iter().enumerate().map(see).collect::<Result<_>>()?;
        Ok(Self::of(parts, each, labels.is_some()))
    }

    /// What `each` sample shows of each part.
    pub(crate) fn of(parts: Vec<Part>, each: Vec<Vec<Seen>>, with_labels: bool) -> Self {
        let samples = each.len();
        let together = |mut all: Vec<Seen>, one: Vec<Seen>| {
            all.iter_mut().zip(one).for_each(|(all, one)| all.merge(one));
            all
        };
        let seen = each.into_iter().reduce(together).unwrap_or_default();
        let mut notes = Vec::new();
        // Labels are those of the first output that they fit.
        let first =
            seen.iter().position(|seen| seen.classes.as_ref().is_some_and(|c| c.labels > 0));
        let judged = parts.into_iter().zip(&seen).enumerate().map(|(i, (part, seen))| {
            let own = part.judge(seen);
            match first == Some(i) {
                true => own,
                false => OutputEvaluation { labelled: None, reference: None, ..own },
            }
        });
        let outputs: Vec<OutputEvaluation> = judged.collect();
        match first.and_then(|i| Some((&outputs[i], seen[i].classes.as_ref()?))) {
            Some((output, classes)) => {
                notes.extend(classes.suspicion(output));
                if classes.ignored > 0 {
                    notes.push(format!("{} labels are -1, and left out", classes.ignored));
                }
            }
            None if with_labels => notes.push("the labels fit no output".into()),
            None => {}
        }
        let is_rows = |i: &usize| seen[*i].classes.as_ref().is_some_and(|c| !c.is_map);
        let main = first.filter(is_rows).or((0..seen.len()).find(is_rows)).map(|i| &outputs[i]);
        let right = |of: fn(&OutputEvaluation) -> &Option<Labelled>| {
            main.and_then(|output| Some(of(output).as_ref()?.right))
        };
        Self {
            samples,
            top1: right(|output| &output.labelled),
            reference_top1: right(|output| &output.reference),
            agreement: main.and_then(|output| output.agreement),
            output_sqnr_db: outputs.first().and_then(|output| output.sqnr_db),
            outputs,
            notes,
        }
    }
}

impl Classes {
    /// Labels that do not look like those of this network.
    fn suspicion(&self, output: &OutputEvaluation) -> Option<String> {
        let Self { number, labels, beyond, .. } = *self;
        let name = &output.output;
        if beyond > 0 && !self.is_map {
            return Some(format!(
                "{beyond} labels are beyond the {number} classes of output \"{name}\""
            ));
        }
        let (who, hits) = match &output.reference {
            Some(_) => ("float ", &self.reference),
            None => ("", &self.ours),
        };
        let by_chance = if number < 5 { 1 } else { 2 };
        (labels >= 20 && number > 1 && hits.right * number <= by_chance * labels).then(|| {
            format!(
                "{who}top-1 is {:.1} %, hardly more than by chance: the labels, their order, or the preprocessing may be \
                 others than those of the network",
                100.0 * hits.right as f64 / labels as f64
            )
        })
    }
}
