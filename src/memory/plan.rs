//! Static memory planning: where each buffer of a network lies in one block of memory, the arena.
//!
//! A network runs step by step, and a buffer needs its bytes only from the step that writes it to
//! the last step that reads it. Two buffers that are never alive at the same step may lie in the
//! same place. All sizes are known before the first run, so all places are too: the device needs
//! no allocator, only one array and a constant offset per buffer. A residual block:
//!
//! ```text
//! step        0 (conv)   1 (conv)   2 (add)    3 (conv)
//! offset 8               b          b
//! offset 4    a          a                     c           a = conv(x)   y = x + b
//! offset 0    x          x          x, y       y           b = conv(a)   c = conv(y)
//! ```
//!
//! Here the addition works *in place*: it writes its result over an argument that nobody reads
//! later. Such a pair may be *joined*: both begin at the same offset, as one *block*. This makes
//! the step itself smaller, but two buffers tied together fit into fewer gaps elsewhere, so a
//! permission is not a duty, and which pairs to join is part of the search.
//!
//! The smallest arena is hard to find (*dynamic storage allocation* is NP-hard), but two things
//! make it easy to come close. No arena is smaller than what is alive at the worst step: this
//! bound tells when to stop. And some best plan always comes from a simple rule: take the blocks in
//! the right order and put each at the lowest offset where it is in nobody's way. (Apply this to
//! the blocks of a best plan from the bottom up: each can only slide down.) So the planner looks
//! for an order. It tries a few that suit networks; most reach the bound at once. If none does, it
//! changes the best one at random, again and again, and keeps what is not worse.

use std::cmp::Reverse;
use std::collections::BTreeSet;

/// The usual alignment in bytes: that of a 32-bit integer.
pub const DEFAULT_ALIGN: usize = 4;

/// How long to search: at most so many changes, and about so many comparisons of two buffers.
/// Work is counted, not time, so that the plan is the same on every machine.
const MAX_CHANGES: usize = 20_000;
const MAX_COMPARISONS: usize = 20_000_000;

/// Bytes that some steps need: an activation, or scratch memory of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Size in bytes, possibly zero.
    pub size: usize,
    /// The step that writes it.
    pub first: usize,
    /// The last step that reads it, or `first` if there is none.
    pub last: usize,
}

impl Buffer {
    /// Whether some step needs both.
    fn meets(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Permission to write a result over an argument: the two may begin at the same offset. It counts
/// only where the argument's last step is the result's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InPlace {
    /// Index of the buffer that is read.
    pub argument: usize,
    /// Index of the buffer that is written; it may be larger than the argument.
    pub result: usize,
}

/// The place of each buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where each buffer begins in the arena, in bytes.
    pub offsets: Vec<usize>,
    /// Size of the arena in bytes, a multiple of the alignment.
    pub size: usize,
    /// No plan is smaller than this: what the worst step needs, with each size rounded up to the
    /// alignment. If `size` is the same, the plan is the best possible.
    pub bound: usize,
}

/// Places all buffers in one arena, each at a multiple of `align`. The same arguments always give
/// the same plan.
///
/// # Panics
/// If `align` is not a power of two, or `in_place` names a buffer that does not exist.
pub fn plan(buffers: &[Buffer], in_place: &[InPlace], align: usize) -> Plan {
    assert!(align.is_power_of_two(), "alignment {align} is not a power of two");
    let problem = Problem::new(buffers, in_place, align);
    let starts = problem.starts().into_iter();
    let packed = starts.filter_map(|s| problem.pack(&s, usize::MAX).map(|p| (s, p)));
    let best = packed.min_by_key(|(_, p)| p.size).map(|(s, p)| problem.improve(s, p));
    let (offsets, size) = best.map_or((Vec::new(), 0), |p| (p.offsets, p.size));
    Plan {
        offsets: offsets.iter().map(|o| o * align).collect(),
        size: size * align,
        bound: problem.bound * align,
    }
}

impl Plan {
    /// Checks that the plan is safe to use: all buffers lie in the arena, aligned, and none in the
    /// way of another.
    ///
    /// # Errors
    /// What is wrong, and with which buffers.
    #[cfg(test)]
    pub fn check(
        &self,
        buffers: &[Buffer],
        in_place: &[InPlace],
        align: usize,
    ) -> Result<(), String> {
        if self.offsets.len() != buffers.len() {
            return Err(format!("{} offsets for {} buffers", self.offsets.len(), buffers.len()));
        }
        for (i, (a, &start)) in buffers.iter().zip(&self.offsets).enumerate() {
            if !start.is_multiple_of(align) {
                return Err(format!("buffer {i} at offset {start} is not aligned to {align}"));
            }
            if start.checked_add(a.size).is_none_or(|end| end > self.size) {
                return Err(format!("buffer {i} at offset {start} reaches out of the arena"));
            }
            for (j, (b, &other)) in buffers[..i].iter().zip(&self.offsets).enumerate() {
                let permits = |p: &InPlace| {
                    let (a, r) = (p.argument, p.result);
                    ((a, r) == (i, j) || (a, r) == (j, i)) && buffers[a].last == buffers[r].first
                };
                let joined = || start == other && in_place.iter().any(permits);
                let overlap = start < other + b.size && other < start + a.size;
                if overlap && a.meets(b) && !joined() {
                    return Err(format!("buffers {j} and {i} are alive together and overlap"));
                }
            }
        }
        Ok(())
    }
}

/// What the search needs to know; all sizes are in units of the alignment.
struct Problem<'a> {
    buffers: &'a [Buffer],
    sizes: Vec<usize>,
    /// Per buffer, all others that are alive at one of its steps. Empty ones meet nobody.
    neighbours: Vec<Vec<usize>>,
    /// Pairs (argument, result) that may be joined, the largest saving first.
    pairs: Vec<(usize, usize)>,
    /// The same as a set, the smaller index first.
    joinable: BTreeSet<(usize, usize)>,
    /// Those of `pairs` whose step is above the bound unless something is joined.
    needed: Vec<(usize, usize)>,
    bound: usize,
}

/// What the search chooses.
#[derive(Clone)]
struct Choice {
    /// All buffers, in the order of placement.
    order: Vec<usize>,
    /// Pairs to join; where two exclude each other, the earlier one counts.
    joins: Vec<(usize, usize)>,
}

/// What comes of a choice, in units of the alignment.
struct Packing {
    offsets: Vec<usize>,
    size: usize,
}

impl<'a> Problem<'a> {
    fn new(buffers: &'a [Buffer], in_place: &[InPlace], align: usize) -> Self {
        let n = buffers.len();
        let sizes: Vec<usize> = buffers.iter().map(|b| b.size.div_ceil(align)).collect();
        let saving = |&(i, j): &(usize, usize)| sizes[i].min(sizes[j]);
        let meet = |i, j| i != j && saving(&(i, j)) > 0 && buffers[i].meets(&buffers[j]);
        let neighbours = (0..n).map(|i| (0..n).filter(|&j| meet(i, j)).collect()).collect();
        let mut pairs: Vec<_> = in_place.iter().map(|p| (p.argument, p.result)).collect();
        pairs.retain(|&(a, r)| meet(a, r) && buffers[a].last == buffers[r].first);
        pairs.sort_by_key(|pair| Reverse(saving(pair)));
        let joinable = pairs.iter().map(|&(a, r)| (a.min(r), a.max(r))).collect();

        // What a step can save is limited twice: each result lies over one argument at most, and
        // each argument under one result.
        let (mut as_result, mut as_argument) = (vec![0; n], vec![0; n]);
        for pair @ &(a, r) in &pairs {
            as_result[r] = saving(pair).max(as_result[r]);
            as_argument[a] = saving(pair).max(as_argument[a]);
        }
        // All that is alive at a step, without and with joining.
        let load = |step: usize| {
            let sum = |sizes: &[usize], counts: fn(&Buffer, usize) -> bool| -> usize {
                buffers.iter().zip(sizes).filter(|(b, _)| counts(b, step)).map(|(_, s)| s).sum()
            };
            let full = sum(&sizes, |b, step| b.first <= step && step <= b.last);
            let written = sum(&as_result, |b, step| b.first == step);
            (full, full - written.min(sum(&as_argument, |b, step| b.last == step)))
        };
        // The load grows only at steps that write something.
        let loads: Vec<_> = buffers.iter().map(|b| load(b.first)).collect();
        let bound = loads.iter().map(|&(_, joined)| joined).max().unwrap_or(0);
        let needed = pairs.iter().copied().filter(|&(_, r)| loads[r].0 > bound).collect();
        Self { buffers, sizes, neighbours, pairs, joinable, needed, bound }
    }

    /// Choices that suit networks: join what must be or what may be; place first what is large,
    /// what shares a level, or what lives long.
    fn starts(&self) -> Vec<Choice> {
        let mut starts = Vec::new();
        for joins in [&self.needed, &self.pairs] {
            let levels = self.levels(joins);
            let life = |i: usize| self.buffers[i].last - self.buffers[i].first;
            let rank = |key: &dyn Fn(usize) -> (usize, Reverse<usize>)| {
                let mut order: Vec<usize> = (0..self.sizes.len()).collect();
                order.sort_by_key(|&i| key(i));
                Choice { order, joins: joins.clone() }
            };
            starts.push(rank(&|i| (0, Reverse(self.sizes[i]))));
            starts.push(rank(&|i| (levels[i], Reverse(self.sizes[i]))));
            starts.push(rank(&|i| (usize::MAX - life(i), Reverse(self.sizes[i]))));
        }
        starts
    }

    /// Per buffer the lowest level that none of its neighbours has, in order of time. In a chain,
    /// where each buffer meets only the ones before and after it, these are 0, 1, 0, 1 and so on.
    /// Placed by level, a chain always reaches the bound: each odd one on its two neighbours.
    fn levels(&self, joins: &[(usize, usize)]) -> Vec<usize> {
        let (_, mut blocks) = self.blocks(joins);
        blocks.sort_by_key(|block| block.iter().map(|&i| self.buffers[i].first).min());
        let mut levels = vec![usize::MAX; self.sizes.len()];
        for block in blocks {
            let near = block.iter().flat_map(|&i| &self.neighbours[i]);
            let taken: BTreeSet<usize> = near.map(|&j| levels[j]).collect();
            let free = (0..).find(|level| !taken.contains(level)).unwrap_or(0);
            block.iter().for_each(|&i| levels[i] = free);
        }
        levels
    }

    /// Joins buffers to blocks: the block of each buffer, and the buffers of each block.
    fn blocks(&self, joins: &[(usize, usize)]) -> (Vec<usize>, Vec<Vec<usize>>) {
        let mut block_of: Vec<usize> = (0..self.sizes.len()).collect();
        let mut blocks: Vec<Vec<usize>> = block_of.iter().map(|&i| vec![i]).collect();
        for &(a, r) in joins {
            let (to, from) = (block_of[a], block_of[r]);
            // All of a block begin at one offset, so any two that meet need a permission.
            let clash = blocks[from].iter().any(|&i| {
                let mut near = self.neighbours[i].iter().filter(|&&j| block_of[j] == to);
                near.any(|&j| !self.joinable.contains(&(i.min(j), i.max(j))))
            });
            if to != from && !clash {
                for i in std::mem::take(&mut blocks[from]) {
                    block_of[i] = to;
                    blocks[to].push(i);
                }
            }
        }
        (block_of, blocks)
    }

    /// Places each block, in the order of the choice, at the lowest offset where it is in nobody's
    /// way. Gives up when the arena gets larger than `limit`.
    fn pack(&self, choice: &Choice, limit: usize) -> Option<Packing> {
        const NOWHERE: usize = usize::MAX;
        let (block_of, blocks) = self.blocks(&choice.joins);
        let mut packing = Packing { offsets: vec![NOWHERE; self.sizes.len()], size: 0 };
        let mut taken = Vec::new();
        for &next in &choice.order {
            let Packing { offsets, size } = &mut packing;
            if offsets[next] != NOWHERE {
                continue; // placed with its block
            }
            taken.clear();
            for &i in &blocks[block_of[next]] {
                for &j in self.neighbours[i].iter().filter(|&&j| offsets[j] != NOWHERE) {
                    // From the first offset at which `i` reaches into `j`, to the end of `j`.
                    let first = (offsets[j] + 1).saturating_sub(self.sizes[i]);
                    taken.push((first, offsets[j] + self.sizes[j]));
                }
            }
            taken.sort_unstable();
            let rise = |at: usize, &(first, end): &(usize, usize)| {
                if at < first { at } else { at.max(end) }
            };
            let free = taken.iter().fold(0, rise);
            for &i in &blocks[block_of[next]] {
                offsets[i] = free;
                *size = (*size).max(free + self.sizes[i]);
            }
            if *size > limit {
                return None;
            }
        }
        Some(packing)
    }

    /// Changes a choice at random, keeping each change that does not make the arena larger.
    fn improve(&self, mut choice: Choice, mut best: Packing) -> Packing {
        let mut random = Random(1);
        let per_change = self.neighbours.iter().map(|near| 1 + near.len()).sum::<usize>().max(1);
        for _ in 0..MAX_CHANGES.min(MAX_COMPARISONS / per_change) {
            if best.size == self.bound {
                break;
            }
            let mut next = choice.clone();
            self.change(&mut next, &best, &mut random);
            while random.below(4) == 0 {
                self.change(&mut next, &best, &mut random); // some changes help only together
            }
            if let Some(packing) = self.pack(&next, best.size) {
                (choice, best) = (next, packing);
            }
        }
        best
    }

    /// One small change: of the pairs to join, or of the order.
    fn change(&self, choice: &mut Choice, packing: &Packing, random: &mut Random) {
        if !self.pairs.is_empty() && random.below(8) == 0 {
            // Join a pair, or join it no longer.
            let pair = self.pairs[random.below(self.pairs.len())];
            match choice.joins.iter().position(|&p| p == pair) {
                Some(at) => _ = choice.joins.remove(at),
                None => choice.joins.insert(0, pair),
            }
        } else {
            // Place a buffer earlier, mostly one that lies too high.
            let any = random.below(4) == 0;
            let high = |i: usize| packing.offsets[i] + self.sizes[i] > self.bound;
            let mut turns: Vec<usize> = (0..choice.order.len()).collect();
            turns.retain(|&turn| any || high(choice.order[turn]));
            let from = turns[random.below(turns.len())];
            let to = random.below(from + 1);
            choice.order[to..=from].rotate_right(1);
        }
    }
}

/// Numbers that look random and are the same every time (xorshift).
struct Random(u64);

impl Random {
    /// A number below `n`, which is not zero.
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

#[cfg(test)]
mod tests;
