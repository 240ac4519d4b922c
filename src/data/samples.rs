//! What a network is run on, and the loop over it.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::error::{Context, Result};
use crate::tensor::Tensor;

/// Samples in an order, each asked for by its number, from any thread.
pub trait Samples: Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// The inputs of the network for sample `i`, in the network's order.
    ///
    /// # Errors
    /// If the sample cannot be read.
    fn get(&self, i: usize) -> Result<Vec<Tensor<f32>>>;

    /// The class of sample `i`, if it is known.
    fn label(&self, _i: usize) -> Option<usize> {
        None
    }

    /// The classes of sample `i`, if they are known: one for each row of its batch, or for each place of its maps, row
    /// by row.
    ///
    /// # Errors
    /// If they cannot be read.
    fn labels(&self, i: usize) -> Result<Option<Vec<usize>>> {
        Ok(self.label(i).map(|class| vec![class]))
    }

    /// Whether there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Samples of a network with one input.
impl Samples for Vec<Tensor<f32>> {
    fn len(&self) -> usize {
        self.len()
    }

    fn get(&self, i: usize) -> Result<Vec<Tensor<f32>>> {
        Ok(vec![self[i].clone()])
    }
}

/// How a loop over samples is run; what it computes does not depend on it.
#[derive(Clone, Copy)]
pub struct Workers<'a> {
    threads: NonZeroUsize,
    progress: &'a (dyn Fn(usize) + Sync),
}

impl fmt::Debug for Workers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Workers({})", self.threads)
    }
}

impl Default for Workers<'_> {
    /// A thread for each core, or only this one without the feature `parallel`.
    fn default() -> Self {
        let threads = match cfg!(feature = "parallel") {
            true => std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            false => NonZeroUsize::MIN,
        };
        Self { threads, progress: &|_| () }
    }
}

impl<'a> Workers<'a> {
    /// So many threads.
    pub fn new(threads: NonZeroUsize) -> Self {
        Self { threads, ..Self::default() }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads.get()
    }

    /// Calls `progress` after each sample with the number of samples that are done; the calls come from
    /// any thread.
    pub fn with_progress(self, progress: &'a (dyn Fn(usize) + Sync)) -> Self {
        Self { progress, ..self }
    }

    /// Calls `work` once for each number below `count`: each thread with the one state that `state` has
    /// made for it. Returns the states.
    ///
    /// # Errors
    /// That of the lowest number that failed, with the number.
    pub fn fold<T: Send>(
        self,
        count: usize,
        state: impl Fn() -> T + Sync,
        work: impl Fn(&mut T, usize) -> Result<()> + Sync,
    ) -> Result<Vec<T>> {
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (stop, failed) = (AtomicBool::new(false), Mutex::new(None));
        let one = || {
            let mut state = state();
            while !stop.load(Ordering::Relaxed) {
                // Numbers are taken in order: all that are lower than one that fails are finished, too.
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= count {
                    break;
                }
                match work(&mut state, i) {
                    Ok(()) => (self.progress)(done.fetch_add(1, Ordering::Relaxed) + 1),
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        let mut failed = failed.lock().unwrap_or_else(|e| e.into_inner());
                        if failed.as_ref().is_none_or(|(first, _)| i < *first) {
                            *failed = Some((i, error));
                        }
                    }
                }
            }
            state
        };
        let threads = self.threads.get().min(count);
        let states = if threads <= 1 {
            vec![one()]
        } else {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
                let joined = threads.into_iter().map(|thread| thread.join());
                joined.map(|state| state.unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
            })
        };
        match failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
            Some((i, error)) => Err(error).in_sample(i),
            None => Ok(states),
        }
    }

    /// What `work` returns for each number below `count`, in order.
    ///
    /// # Errors
    /// Those of [`fold`](Self::fold).
    pub fn map<T: Send>(
        self,
        count: usize,
        work: impl Fn(usize) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let parts = self.fold(count, Vec::new, |part, i| {
            part.push((i, work(i)?));
            Ok(())
        })?;
        let mut all: Vec<(usize, T)> = parts.into_iter().flatten().collect();
        all.sort_unstable_by_key(|&(i, _)| i);
        Ok(all.into_iter().map(|(_, result)| result).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::bail;

    fn workers(threads: usize) -> Workers<'static> {
        Workers::new(NonZeroUsize::new(threads).unwrap())
    }

    #[test]
    fn each_number_is_worked_on_once_by_any_number_of_threads() {
        for threads in [1, 2, 7] {
            for count in [0, 1, 5, 100] {
                let most = AtomicUsize::new(0);
                let progress = |done| {
                    most.fetch_max(done, Ordering::Relaxed);
                };
                let squares =
                    workers(threads).with_progress(&progress).map(count, |i| Ok(i * i)).unwrap();
                assert_eq!(squares, (0..count).map(|i| i * i).collect::<Vec<_>>());
                assert_eq!(most.into_inner(), count);
            }
        }
    }

    #[test]
    fn the_first_failure_is_named_and_ends_the_loop() {
        for threads in [1, 2, 7] {
            let calls = AtomicUsize::new(0);
            let work = |i: usize| {
                calls.fetch_add(1, Ordering::Relaxed);
                if i % 10 == 3 { bail!(Range, "no {i}") } else { Ok(()) }
            };
            let error = workers(threads).map(1_000_000, work).unwrap_err().to_string();
            assert_eq!(error, "sample 3: no 3", "{threads} threads");
            assert!(calls.into_inner() < 1_000_000);
        }
    }
}
