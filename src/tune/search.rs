//! From widths to better ones, step by step.

use super::known::{Known, Measured, key};
use super::measure::Bench;
use super::mixed::{Mixed, Unit, Widths};
use super::{Cost, Event, Goal, Limits, Options, TuneStep, Tuned, WidthChange, db};
use crate::error::{Result, bail};
use crate::quantize::{Quantized, Quantizer};

/// So many changes are measured together, those that promise most.
const FEW: usize = 5;
/// So often that is done for one step, where several widths change.
const TRIES: usize = 3;
/// Changes that are measured from one run of the rest.
const AT_A_TIME: usize = 32;
/// What leaves more than this of the error is no gain: 0.02 dB.
const WORTH_IT: f32 = 0.9954;
/// A goal is met with this to spare, as the result of all steps is not quite what was measured: 0.05 dB.
const TO_SPARE: f32 = 0.9886;
/// What has no limit counts so much less than what has one, and operations so much less than bytes.
const UNLIMITED: f64 = 0.01;
/// So often the goal is made stricter.
const ATTEMPTS: usize = 5;

pub struct Search<'a> {
    quantizer: &'a Quantizer,
    options: &'a Options<'a>,
    mixed: Mixed<'a>,
    bench: Bench<'a>,
    known: Known,
    /// What bytes of RAM, of constants, and operations count.
    price: [f64; 3],
    limits: [f64; 3],
    /// For each unit and each of its widths what it adds, as far as is known: energy, then costs.
    adds: Vec<Vec<Option<[f64; 4]>>>,
    /// The error may have so much energy.
    most: f32,
    steps: Vec<TuneStep>,
    measured: usize,
}

/// Widths, and what is known of them.
#[derive(Clone)]
struct State {
    widths: Widths,
    energy: f32,
    cost: Cost,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Widen,
    Narrow,
}

fn numbers(cost: Cost) -> [f64; 3] {
    [cost.ram_bytes as f64, cost.constant_bytes as f64, cost.macs as f64]
}

impl State {
    fn new(widths: Widths, Measured { energy, cost }: Measured) -> Self {
        Self { widths, energy, cost }
    }

    fn numbers(&self) -> [f64; 4] {
        let [ram, constants, macs] = numbers(self.cost);
        [self.energy as f64, ram, constants, macs]
    }
}

impl<'a> Search<'a> {
    /// # Errors
    /// Those of quantization, and of the file to go on from.
    pub fn new(quantizer: &'a Quantizer, options: &'a Options<'a>) -> Result<Self> {
        (options.watch)(Event::Quantizing);
        let session = quantizer.session()?;
        let bench = Bench::new(&session.graph, session.held_back(), options.workers)?;
        if bench.samples() == 0 {
            bail!(Invalid, "the statistics hold no samples to measure by: calibrate anew");
        }
        let mixed = Mixed::new(quantizer, options)?;
        let asked = quantizer.full_recipe()?.to_json() + options.target.name();
        let mut known = Known::nothing(&mixed, quantizer.graph(), &asked);
        if let Some(path) = &options.resume {
            known = known.read(path)?;
        }
        let most = match options.goal {
            Goal::Sqnr(db) => TO_SPARE * 10f64.powf(-db / 10.0) as f32,
            Goal::Best | Goal::Drop(..) => 0.0,
        };
        let (price, limits) = ([0.0; 3], [f64::INFINITY; 3]);
        let (adds, steps) = (vec![], vec![]);
        Ok(Self {
            quantizer,
            options,
            mixed,
            bench,
            known,
            price,
            limits,
            adds,
            most,
            steps,
            measured: 0,
        })
    }

    pub fn run(mut self) -> Result<Tuned> {
        let own = self.mixed.own();
        let Some(own) = self.measure(&own, std::slice::from_ref(&own))?.remove(0) else {
            bail!(Unsupported, "the network has no integer form as it is asked for");
        };
        self.set_limits(&own);
        if !self.fits(own.cost) {
            self.narrowest(&own)?;
        }
        self.measure_each(&own)?;
        self.log(None, &own);
        let mut state = self.shrunk(own.clone())?;
        for _ in 0..ATTEMPTS {
            state = self.widened(state)?;
            let is_met = self.is_met(&state)?;
            if is_met {
                state = self.narrowed(state)?;
            }
            while let Some(next) = self.exchanged(&state)? {
                state = self.step(&state, next)?;
            }
            let (mut real, mut quantized, top1) = self.quantized(&state)?;
            let missed = match (self.options.goal, top1) {
                (Goal::Sqnr(wanted), _) => db(real.energy) < wanted,
                (Goal::Drop(points, _), Some([float, ours])) => 100.0 * (float - ours) > points,
                _ => false,
            };
            if missed && !is_met {
                return self.refuse(real, top1);
            }
            // Steps may give other codes than were put together: they may even lose what was won.
            if self.options.goal.is_best() && self.fits(own.cost) && state.widths != own.widths {
                let (start, unchanged, _) = self.quantized(&own)?;
                if start.energy < real.energy && self.fits(start.cost) {
                    self.step(&state, own.clone())?;
                    (state, real, quantized) = (own.clone(), start, unchanged);
                }
            }
            let over = self.over(real.cost);
            if !missed && over == [0.0; 3] {
                return Ok(Tuned {
                    rules: self.mixed.recipe(&state.widths).rules,
                    quantized,
                    sqnr_db: db(real.energy),
                    cost: real.cost,
                    top1,
                    samples: self.bench.samples(),
                    measured: self.measured,
                    steps: self.steps,
                });
            }
            if missed {
                self.most = match self.options.goal {
                    Goal::Sqnr(wanted) => {
                        let lost = real.energy as f64 / 10f64.powf(-wanted / 10.0);
                        self.most.min(state.energy) / lost as f32 * TO_SPARE
                    }
                    _ => 0.8 * state.energy,
                };
            }
            self.limits.iter_mut().zip(over).for_each(|(limit, over)| *limit -= over);
            state = self.shrunk(state)?;
        }
        let (real, _, top1) = self.quantized(&state)?;
        self.refuse(real, top1)
    }

    /// Says what was reached.
    fn refuse(&self, real: Measured, top1: Option<[f64; 2]>) -> Result<Tuned> {
        let (Cost { ram_bytes, constant_bytes, macs }, sqnr) = (real.cost, db(real.energy));
        let best = format!("{sqnr:.2} dB");
        let (what, best) = match (self.options.goal, top1) {
            (Goal::Sqnr(wanted), _) => (format!("{wanted} dB"), best),
            (Goal::Drop(points, _), Some([float, ours])) => {
                let drop = 100.0 * (float - ours);
                (format!("a drop of {points} points"), format!("{drop:.2}, at {best}"))
            }
            _ => ("what the limits leave".into(), best),
        };
        bail!(
            Invalid,
            "{what} cannot be reached: the best is {best}, with {ram_bytes} bytes of RAM, {constant_bytes} of \
             constants, {macs} weighted MACs"
        )
    }

    fn set_limits(&mut self, own: &State) {
        let Limits { ram_bytes, constant_bytes, macs, share } = self.options.limits;
        let own = numbers(own.cost).map(|x| x.max(1.0));
        let given = [ram_bytes, constant_bytes].map(|limit| limit.map(|it| it as f64));
        let given = [given[0], given[1], macs.map(|it| it as f64)];
        let is_limited = share.is_some() || given.iter().any(Option::is_some);
        for i in 0..3 {
            let of_share = share.map(|share| own[i] * share[i]);
            self.limits[i] = given[i].or(of_share).unwrap_or(f64::INFINITY);
            let bytes = if i < 2 { 1.0 / (own[0] + own[1]) } else { UNLIMITED / own[i] };
            self.price[i] = match self.limits[i].is_finite() {
                true => 1.0 / self.limits[i].max(1.0),
                false if is_limited && self.options.goal.is_best() => UNLIMITED / own[i],
                false => bytes,
            };
        }
    }

    /// What of each limit is passed.
    fn over(&self, cost: Cost) -> [f64; 3] {
        let mut over = numbers(cost);
        over.iter_mut().zip(self.limits).for_each(|(x, limit)| *x = (*x - limit).max(0.0));
        over
    }

    fn excess(&self, cost: Cost) -> f64 {
        self.over(cost).iter().zip(self.price).map(|(over, price)| over * price).sum()
    }

    fn fits(&self, cost: Cost) -> bool {
        self.excess(cost) == 0.0
    }

    fn price(&self, numbers: [f64; 4]) -> f64 {
        numbers[1..].iter().zip(self.price).map(|(x, price)| x * price).sum()
    }

    /// What is known of `to`, and what is not, measured beside `from`.
    fn measure(&mut self, from: &Widths, to: &[Widths]) -> Result<Vec<Option<State>>> {
        let new: Vec<Widths> =
            to.iter().filter(|to| !self.known.measured.contains_key(&key(to))).cloned().collect();
        if !new.is_empty() {
            let measured = self.bench.measure(&self.mixed, self.options, from, &new)?;
            self.measured += new.len();
            let keys = new.iter().map(key);
            self.known.measured.extend(keys.zip(measured));
            self.save()?;
        }
        let state = |to: &Widths| {
            self.known.measured[&key(to)].map(|measured| State::new(to.clone(), measured))
        };
        Ok(to.iter().map(state).collect())
    }

    fn save(&self) -> Result<()> {
        self.options.resume.as_ref().map_or(Ok(()), |path| self.known.write(path))
    }

    /// What each unit adds with each of its widths, the others as they are.
    fn measure_each(&mut self, own: &State) -> Result<()> {
        let places: Vec<(usize, usize)> = (0..self.mixed.units.len())
            .flat_map(|u| (0..self.mixed.units[u].widths.len()).map(move |w| (u, w)))
            .collect();
        let widths: Vec<Widths> = places
            .iter()
            .map(|&(u, w)| {
                let mut widths = own.widths.clone();
                widths[u] = self.mixed.units[u].widths[w];
                widths
            })
            .collect();
        self.adds = self.mixed.units.iter().map(|unit| vec![None; unit.widths.len()]).collect();
        for (some, at) in widths.chunks(AT_A_TIME).zip(places.chunks(AT_A_TIME)) {
            let measured = self.measure(&own.widths, some)?;
            for (&(u, w), state) in at.iter().zip(measured) {
                let own = own.numbers();
                self.adds[u][w] =
                    state.map(|state| std::array::from_fn(|i| state.numbers()[i] - own[i]));
            }
            let done = at
                .last()
                .map_or(0, |last| places.iter().position(|at| at == last).unwrap_or(0) + 1);
            (self.options.watch)(Event::Measured(done, places.len()));
        }
        Ok(())
    }

    fn place(&self, unit: usize, widths: &Widths) -> usize {
        let of_unit = &self.mixed.units[unit].widths;
        of_unit.iter().position(|width| *width == widths[unit]).unwrap_or(0)
    }

    /// What would become of `numbers` if `unit` had its width `to` in place of that of `widths`, as far as is known.
    fn guess(
        &self,
        numbers: [f64; 4],
        widths: &Widths,
        unit: usize,
        to: usize,
    ) -> Option<[f64; 4]> {
        let (was, is) = (self.adds[unit][self.place(unit, widths)]?, self.adds[unit][to]?);
        let mut guess: [f64; 4] = std::array::from_fn(|i| numbers[i] + is[i] - was[i]);
        guess[0] = guess[0].max(0.0);
        Some(guess)
    }

    /// All changes of one width that go this way, from `widths`.
    fn moves(&self, widths: &Widths, way: Way) -> Vec<(usize, usize)> {
        let of_unit = |unit: usize| {
            let at = self.place(unit, widths);
            let count = self.mixed.units[unit].widths.len();
            let to = if way == Way::Widen { at + 1..count } else { 0..at };
            to.map(move |to| (unit, to))
        };
        (0..widths.len()).flat_map(of_unit).collect()
    }

    /// Gain by price, or the reverse; nothing, if there is none.
    fn worth(&self, from: [f64; 4], to: [f64; 4], way: Way) -> Option<f64> {
        let (lost, paid) = (to[0] - from[0], self.price(to) - self.price(from));
        let worth = match way {
            Way::Widen => -lost / from[0].max(1e-30) / paid.max(1e-9),
            Way::Narrow => -paid / (lost / from[0].max(1e-30)).max(1e-6),
        };
        let is_better = match way {
            Way::Widen => to[0] < from[0] * WORTH_IT as f64,
            Way::Narrow => paid < 0.0,
        };
        is_better.then_some(worth)
    }

    fn changed(&self, widths: &Widths, unit: usize, to: usize) -> Widths {
        let mut widths = widths.clone();
        widths[unit] = self.mixed.units[unit].widths[to];
        widths
    }

    /// The best change of one width that is `allowed`.
    fn best(
        &mut self,
        state: &State,
        way: Way,
        allowed: impl Fn(&mut Self, &State) -> Result<bool>,
    ) -> Result<Option<State>> {
        let from = state.numbers();
        let mut moves: Vec<(bool, f64, (usize, usize))> = Vec::new();
        for (unit, to) in self.moves(&state.widths, way) {
            let Some(guess) = self.guess(from, &state.widths, unit, to) else { continue };
            let over = (0..3).any(|i| guess[i + 1] > self.limits[i]);
            let hopeless =
                way == Way::Narrow && self.most > 0.0 && guess[0] > 1.25 * self.most as f64;
            // Of what was measured beside other widths it is not sure that it wins nothing.
            let unlikely = (way == Way::Widen).then_some(f64::NEG_INFINITY);
            if let Some(worth) = self.worth(from, guess, way).or(unlikely).filter(|_| !hopeless) {
                moves.push((over && way == Way::Widen, worth, (unit, to)));
            }
        }
        moves.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
        let mut best: Option<(f64, State)> = None;
        for few in moves.chunks(FEW) {
            if best.as_ref().is_some_and(|(worth, _)| few[0].0 || *worth >= few[0].1) {
                break;
            }
            let widths: Vec<Widths> =
                few.iter().map(|&(.., (unit, to))| self.changed(&state.widths, unit, to)).collect();
            let measured = self.measure(&state.widths, &widths)?;
            let mut found = Vec::new();
            for (&(.., (unit, to)), next) in few.iter().zip(measured) {
                let Some(next) = next else { continue };
                let (at, is) = (self.place(unit, &state.widths), next.numbers());
                if let Some(was) = self.adds[unit][at] {
                    self.adds[unit][to] = Some(std::array::from_fn(|i| was[i] + is[i] - from[i]));
                }
                found.extend(self.worth(from, is, way).map(|worth| (worth, next)));
            }
            found.sort_by(|a, b| b.0.total_cmp(&a.0));
            for (worth, next) in found {
                if best.as_ref().is_none_or(|(best, _)| worth > *best) && allowed(self, &next)? {
                    best = Some((worth, next));
                }
            }
        }
        Ok(best.map(|(_, state)| state))
    }

    fn is_met(&mut self, state: &State) -> Result<bool> {
        match self.options.goal {
            Goal::Best => Ok(true),
            Goal::Sqnr(_) => Ok(state.energy <= self.most),
            Goal::Drop(points, samples) => {
                if self.most > 0.0 {
                    return Ok(state.energy <= self.most);
                }
                let key = key(&state.widths);
                if !self.known.top1.contains_key(&key) {
                    let [float, ours] =
                        self.bench.top1(&self.mixed.graph(&state.widths)?, samples)?;
                    self.known.top1.insert(key.clone(), (float - ours) as f32);
                    self.save()?;
                }
                Ok(100.0 * self.known.top1[&key] as f64 <= points)
            }
        }
    }

    /// Narrower, until it fits.
    fn shrunk(&mut self, mut state: State) -> Result<State> {
        while !self.fits(state.cost) {
            let excess = self.excess(state.cost);
            let smaller = |search: &mut Self, next: &State| Ok(search.excess(next.cost) < excess);
            let most = std::mem::replace(&mut self.most, 0.0);
            let next = self.best(&state, Way::Narrow, smaller)?;
            self.most = most;
            state = match next {
                Some(next) => self.step(&state, next)?,
                None => {
                    let next = self.narrowest(&state)?;
                    self.step(&state, next)?
                }
            };
        }
        Ok(state)
    }

    /// All as narrow as it can be; refuses limits that even this does not keep.
    fn narrowest(&mut self, state: &State) -> Result<State> {
        let widths: Widths = self.mixed.units.iter().map(|unit| unit.widths[0]).collect();
        let narrowest = self.measure(&state.widths, &[widths])?.remove(0);
        let narrowest = narrowest.unwrap_or_else(|| state.clone());
        if self.fits(narrowest.cost) {
            return Ok(narrowest);
        }
        let (over, least) = (self.over(narrowest.cost), numbers(narrowest.cost));
        let of = ["bytes of RAM", "bytes of constants", "weighted MACs"];
        let [ram, constants, macs] = std::array::from_fn(|i| match over[i] > 0.0 {
            true => {
                format!("; {}: at least {:.0}, not {:.0}", of[i], least[i], self.limits[i].max(0.0))
            }
            false => String::new(),
        });
        bail!(Invalid, "the limits cannot be kept{ram}{constants}{macs}")
    }

    fn widened(&mut self, mut state: State) -> Result<State> {
        let is_best = self.options.goal.is_best();
        while is_best || !self.is_met(&state)? {
            let fits = |search: &mut Self, next: &State| Ok(search.fits(next.cost));
            match self.best(&state, Way::Widen, fits)? {
                Some(next) => state = self.step(&state, next)?,
                None => return self.widest(state),
            }
        }
        Ok(state)
    }

    /// All as wide as it can be, if that fits and is better: what wins nothing alone may win together.
    fn widest(&mut self, state: State) -> Result<State> {
        let widths = |unit: &Unit| unit.widths.last().copied();
        let widths: Option<Widths> = self.mixed.units.iter().map(widths).collect();
        let widest = self.measure(&state.widths, &[widths.unwrap_or_default()])?.remove(0);
        let is_better = |it: &State| self.fits(it.cost) && it.energy < WORTH_IT * state.energy;
        match widest.filter(is_better) {
            Some(widest) => self.step(&state, widest),
            None => Ok(state),
        }
    }

    /// Narrower, as long as the goal is met.
    fn narrowed(&mut self, mut state: State) -> Result<State> {
        if !self.options.goal.is_best() {
            let met = |search: &mut Self, next: &State| {
                Ok(search.fits(next.cost) && search.is_met(next)?)
            };
            while let Some(next) = self.best(&state, Way::Narrow, met)? {
                state = self.step(&state, next)?;
            }
            if self.most == 0.0 {
                self.most = state.energy;
            }
        }
        Ok(state)
    }

    /// One narrower and others wider, if that is better.
    fn exchanged(&mut self, state: &State) -> Result<Option<State>> {
        let is_best = self.options.goal.is_best();
        let from = state.numbers();
        let mut found: Vec<(f64, Widths)> = Vec::new();
        for (unit, to) in self.moves(&state.widths, Way::Narrow) {
            let Some(mut is) = self.guess(from, &state.widths, unit, to) else { continue };
            let mut widths = self.changed(&state.widths, unit, to);
            while is_best || is[0] > self.most as f64 {
                let next = self.moves(&widths, Way::Widen).into_iter().filter_map(|(other, to)| {
                    let guess = self.guess(is, &widths, other, to).filter(|_| other != unit)?;
                    let fits = (0..3).all(|i| guess[i + 1] <= self.limits[i]);
                    Some((self.worth(is, guess, Way::Widen).filter(|_| fits)?, other, to, guess))
                });
                let Some((_, other, to, guess)) = next.max_by(|a, b| a.0.total_cmp(&b.0)) else {
                    break;
                };
                (widths, is) = (self.changed(&widths, other, to), guess);
            }
            let gain = match is_best {
                true => 1.0 - is[0] / from[0].max(1e-30),
                false if is[0] <= self.most as f64 => self.price(from) - self.price(is),
                false => 0.0,
            };
            if gain > 1e-4 {
                found.push((gain, widths));
            }
        }
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        for few in found.chunks(FEW).take(TRIES) {
            let widths: Vec<Widths> = few.iter().map(|(_, widths)| widths.clone()).collect();
            let mut better: Option<State> = None;
            for next in self.measure(&state.widths, &widths)?.into_iter().flatten() {
                let is_better = match is_best {
                    true => next.energy < WORTH_IT * better.as_ref().unwrap_or(state).energy,
                    false => {
                        let than = better.as_ref().unwrap_or(state).numbers();
                        next.energy <= self.most
                            && self.price(next.numbers()) < self.price(than) - 1e-4
                    }
                };
                if is_better && self.fits(next.cost) {
                    better = Some(next);
                }
            }
            if better.is_some() {
                return Ok(better);
            }
        }
        Ok(None)
    }

    /// What all steps make of it, by the engine; and top-1 of both networks, if it is asked for.
    fn quantized(&mut self, state: &State) -> Result<(Measured, Quantized, Option<[f64; 2]>)> {
        (self.options.watch)(Event::Quantizing);
        let quantized = self.quantizer.quantize_by(&self.mixed.recipe(&state.widths))?;
        let measured = self.bench.computed(&quantized.graph, self.options)?;
        let top1 = match self.options.goal {
            Goal::Drop(_, samples) => Some(self.bench.top1(&quantized.graph, samples)?),
            _ => None,
        };
        Ok((measured, quantized, top1))
    }

    fn step(&mut self, from: &State, to: State) -> Result<State> {
        self.log(Some(from), &to);
        Ok(to)
    }

    /// What part of the way to the goal, or to a limit, lies behind.
    fn done(&self, step: &TuneStep) -> f64 {
        let Some(first) = self.steps.first() else { return 0.0 };
        let share = |from: f64, at: f64, to: f64| match to.is_finite() && to > from {
            true => ((at - from) / (to - from)).clamp(0.0, 1.0),
            false => 0.0,
        };
        let (from, at) = (numbers(first.cost), numbers(step.cost));
        match self.options.goal {
            Goal::Sqnr(wanted) => share(first.sqnr_db, step.sqnr_db, wanted),
            _ => (0..3).map(|i| share(from[i], at[i], self.limits[i])).fold(0.0, f64::max),
        }
    }

    fn log(&mut self, from: Option<&State>, to: &State) {
        let widths = from.map_or(&to.widths, |from| &from.widths);
        let pairs = self.mixed.units.iter().zip(widths.iter().zip(&to.widths));
        let changes =
            pairs.filter(|(_, (was, is))| was != is).map(|(unit, (was, is))| WidthChange {
                name: unit.name.clone(),
                kind: unit.kind,
                from: was.bits(),
                to: is.bits(),
            });
        let step = TuneStep { changes: changes.collect(), sqnr_db: db(to.energy), cost: to.cost };
        (self.options.watch)(Event::Step(&step));
        (self.options.watch)(Event::Searching((100.0 * self.done(&step)) as usize, 100));
        self.steps.push(step);
    }
}

impl Goal<'_> {
    fn is_best(&self) -> bool {
        matches!(self, Self::Best)
    }
}
