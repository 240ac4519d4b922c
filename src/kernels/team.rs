//! Threads that stay, to share the work of many short layers. While they are awake, to hand them work and
//! to wait for them costs less than a microsecond.
//!
//! One word, the state, says everything: the number of the job, whether the job is open, whether the team
//! ends, and how many workers are inside.
//!
//! | who | does what to the state | when |
//! |---|---|---|
//! | caller | stores the next number, open, nobody inside | it has stored the address of the job |
//! | worker | adds one, by compare-exchange with a state that is open | it enters |
//! | worker | subtracts one | it leaves; from then on it touches nothing of the job |
//! | caller | clears open | it has found no chunk left |
//!
//! The job is borrowed from the caller, which must not return while a worker can reach it. A worker reads
//! the address of the job, and the job, only between entering and leaving. The changes of the state have
//! one order, so that a worker has either entered before the caller clears open, and is counted, or does
//! not enter. The caller returns once it has cleared open and then read that nobody is inside; so nobody
//! uses the job afterwards. It waits for no worker that sleeps or has not seen the job: such a worker
//! finds the job closed and waits for the next. It cannot take one job for another either, because it
//! reads the address after it has entered. The number only keeps a worker from entering a job twice; that
//! it repeats after very many jobs can make a worker miss one, which the others then do.
//!
//! The caller sees what the workers wrote: they leave with `Release`, it looks with `Acquire`, and all
//! changes between these two are read-modify-writes. In the same way a worker that enters sees the job.

use std::any::Any;
use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::mem::{forget, transmute};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The lowest bit of the number of the job. Below it are the two flags, and below these the number of
/// workers inside.
const NUMBER: usize = 1 << (usize::BITS / 2);
const OPEN: usize = NUMBER >> 1;
const END: usize = NUMBER >> 2;
const INSIDE: usize = END - 1;

/// How long a worker stays awake without a job.
const AWAKE: Duration = Duration::from_micros(100);
/// Turns of a waiting worker from one look at the clock to the next.
const TURNS: usize = 64;
/// Turns of the waiting caller before it begins to offer its core to others.
const PATIENCE: usize = 256;

/// What each thread does, given its place in the team. A pointer to it may outlive what it points to.
type Job = dyn Fn(usize) + Sync;

/// What the threads of a team have in common, on lines of the cache that hold nothing else.
#[derive(Debug)]
#[repr(align(128))]
struct Shared {
    state: AtomicUsize,
    job: UnsafeCell<*const Job>,
}

// SAFETY: `job` is written by the caller, while the last job is closed and nobody is inside, and read by
// workers that are inside; the state orders the two. What it points to is `Sync`.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

#[derive(Debug)]
struct Worker {
    thread: JoinHandle<()>,
    /// Whether it sleeps, or is about to.
    asleep: Arc<AtomicBool>,
}

/// Threads that share work: the caller's and `threads - 1` others.
#[derive(Debug)]
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
}

impl Team {
    /// A team of `threads`, which is at least 1; one thread is the caller's. Where the machine has fewer
    /// cores, the others sleep whenever they have nothing to do.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        // To ask the system takes longer than a small network.
        let enough =
            threads <= 1 || thread::available_parallelism().is_ok_and(|n| threads <= n.get());
        let turns = if enough { TURNS } else { 0 };
        let job: *const Job = &|_| ();
        let shared = Arc::new(Shared { state: AtomicUsize::new(0), job: UnsafeCell::new(job) });
        let mut team = Self { shared, workers: Vec::new() };
        for place in 1..threads {
            let (shared, asleep) = (team.shared.clone(), Arc::new(AtomicBool::new(false)));
            let flag = asleep.clone();
            let builder = thread::Builder::new().name(format!("team-{place}"));
            let thread = builder.spawn(move || shared.serve(&flag, place, turns))?;
            team.workers.push(Worker { thread, asleep });
        }
        Ok(team)
    }

    /// The number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f(part, chunk, own)` for each chunk of `size` elements of `y` (the last may be shorter),
    /// where `own` is that element of `own` that belongs to the thread which computes it. Chunks are
    /// handed out one after another to whichever thread is free. Returns when all are done.
    ///
    /// # Panics
    ///
    /// If `size` is 0, or `own` has fewer elements than there are threads, or `f` panics; in the last
    /// case once all threads have finished, and some chunks may be left out.
    pub fn share<T: Send, S: Send>(
        &mut self,
        y: &mut [T],
        size: usize,
        own: &mut [S],
        f: impl Fn(usize, &mut [T], &mut S) + Sync,
    ) {
        assert!(size > 0 && own.len() >= self.threads());
        let (len, parts) = (y.len(), y.len().div_ceil(size));
        if parts <= 1 || self.workers.is_empty() {
            y.chunks_mut(size).enumerate().for_each(|(part, chunk)| f(part, chunk, &mut own[0]));
            return;
        }
        let (y, own) = (Elements(y.as_mut_ptr()), Elements(own.as_mut_ptr()));
        let next = AtomicUsize::new(0);
        let panic = Mutex::new(None::<Box<dyn Any + Send>>);
        let compute = |place| {
            // SAFETY: there is one for each thread, and each thread has its own place.
            let own = unsafe { &mut own.get(place, 1)[0] };
            loop {
                let part = next.fetch_add(1, Relaxed);
                if part >= parts {
                    break;
                }
                let begin = part * size;
                // SAFETY: `part < parts`, so `begin < len`. No two calls get the same part.
                let chunk = unsafe { y.get(begin, size.min(len - begin)) };
                f(part, chunk, own);
            }
        };
        self.run(parts - 1, &|place| {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| compute(place))) {
                let mut first = panic.lock().unwrap_or_else(PoisonError::into_inner);
                match *first {
                    None => *first = Some(payload),
                    // To drop it might panic, too; and so on.
                    Some(_) => {
                        catch_unwind(AssertUnwindSafe(|| drop(payload))).unwrap_or_else(forget)
                    }
                }
            }
        });
        if let Some(payload) = panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(payload);
        }
    }

    /// Calls `job` in this thread and in the workers that come before it is done here. Of those that
    /// sleep, no more than the first `helpers` are woken.
    fn run(&mut self, helpers: usize, job: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes. Nobody uses the job once `open` is dropped, see above.
        let job = unsafe { transmute::<*const (dyn Fn(usize) + Sync + '_), *const Job>(job) };
        // SAFETY: the last job is closed and nobody is inside, so nobody reads the address. The team is
        // borrowed mutably, so nobody else writes it.
        unsafe { *self.shared.job.get() = job };
        let state = &self.shared.state;
        // This and `asleep` are in one order with what a worker does before it sleeps: either it sees the
        // job, or it is seen to be asleep.
        state.store(state.load(Relaxed).wrapping_add(NUMBER) | OPEN, SeqCst);
        let open = Open(state);
        for worker in self.workers.iter().take(helpers).filter(|w| w.asleep.load(SeqCst)) {
            worker.thread.thread().unpark();
        }
        // SAFETY: the job is borrowed until this function returns.
        unsafe { (*job)(0) };
        drop(open);
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.state.fetch_or(END, Release);
        for worker in self.workers.drain(..) {
            worker.thread.thread().unpark();
            let _ = worker.thread.join();
        }
    }
}

/// An open job. To drop it closes it and waits for the workers inside, even if the caller unwinds.
struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut state = self.0.fetch_and(!OPEN, Acquire);
        let mut turn = 0;
        while state & INSIDE != 0 {
            if turn < PATIENCE {
                turn += 1;
                spin_loop();
            } else {
                thread::yield_now();
            }
            state = self.0.load(Acquire);
        }
    }
}

impl Shared {
    /// What a worker does all its life. If `turns` is 0, it sleeps as soon as it has nothing to do.
    fn serve(&self, asleep: &AtomicBool, place: usize, turns: usize) {
        let (mut last, mut turn, mut since) = (0, 0, None);
        loop {
            let state = self.state.load(Acquire);
            if state & END != 0 {
                return;
            }
            if state & OPEN != 0 && state / NUMBER != last {
                if self.state.compare_exchange(state, state + 1, Acquire, Relaxed).is_ok() {
                    // SAFETY: this worker is inside, so the address is that of the open job, whose caller
                    // waits for this worker.
                    unsafe { (**self.job.get())(place) };
                    self.state.fetch_sub(1, Release);
                    (last, turn, since) = (state / NUMBER, 0, None);
                }
                continue;
            }
            turn += 1;
            if turn < turns {
                spin_loop();
                continue;
            }
            turn = 0;
            if turns > 0 && since.get_or_insert_with(Instant::now).elapsed() < AWAKE {
                thread::yield_now(); // this may be the core that the caller needs
                continue;
            }
            asleep.store(true, SeqCst);
            if self.state.load(SeqCst) == state {
                thread::park();
            }
            asleep.store(false, Relaxed);
            since = None;
        }
    }
}

/// The address of elements that threads divide among themselves.
struct Elements<T>(*mut T);

// SAFETY: whoever calls `get` sees to it that no two threads use one element.
unsafe impl<T: Send> Sync for Elements<T> {}

impl<T> Elements<T> {
    /// # Safety
    ///
    /// The elements exist, and nobody else uses them, for `'a`.
    unsafe fn get<'a>(&self, begin: usize, len: usize) -> &'a mut [T] {
        // SAFETY: they exist and are nobody else's, as this function demands.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(begin), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::ThreadId;

    /// An element of a thread: whether it is in use, and the thread that used it in this job.
    type Own = (AtomicBool, Option<ThreadId>);

    fn owns(team: &Team) -> Vec<Own> {
        (0..team.threads()).map(|_| Own::default()).collect()
    }

    /// Shares `len` elements and checks each, and that no element of a thread has two users.
    fn check(team: &mut Team, len: usize, size: usize) {
        let mut y = vec![0; len];
        let mut own = owns(team);
        let calls = AtomicUsize::new(0);
        team.share(&mut y, size, &mut own, |part, chunk, (used, by)| {
            assert!(!used.swap(true, Relaxed));
            let this = thread::current().id();
            assert_eq!(*by.get_or_insert(this), this);
            assert_eq!(chunk.len(), size.min(len - part * size));
            for (i, v) in chunk.iter_mut().enumerate() {
                *v += part * size + i + 1;
            }
            calls.fetch_add(1, Relaxed);
            assert!(used.swap(false, Relaxed));
        });
        assert!(y.into_iter().eq(1..=len));
        assert_eq!(calls.into_inner(), len.div_ceil(size));
        let mut users: Vec<_> = own.into_iter().filter_map(|(_, by)| by).collect();
        users.sort_by_key(|id| format!("{id:?}"));
        assert!(users.windows(2).all(|pair| pair[0] != pair[1]));
    }

    fn team(threads: usize) -> Team {
        Team::new(threads).expect("threads")
    }

    #[test]
    fn every_chunk_is_computed_once() {
        for threads in [1, 2, 3, 8] {
            let mut team = team(threads);
            assert_eq!(team.threads(), threads);
            let lens = if cfg!(miri) { &[0, 2, 7][..] } else { &[0, 1, 2, 7, 64, 1000] };
            for &len in lens {
                for size in [1, 2, 3, 7, 63, 64, 65, 2000] {
                    check(&mut team, len, size);
                }
            }
        }
    }

    #[test]
    fn many_tiny_jobs() {
        for threads in [2, 3] {
            let mut team = team(threads);
            let jobs = if cfg!(miri) { 100 } else { 20_000 };
            let mut y = [0; 4];
            let mut own = vec![0; threads];
            for _ in 0..jobs {
                team.share(&mut y, 1, &mut own, |_, chunk, own| {
                    chunk[0] += 1;
                    *own += 1;
                });
            }
            assert_eq!(y, [jobs; 4]);
            assert_eq!(own.iter().sum::<i32>(), 4 * jobs);
        }
    }

    #[test]
    fn sleeping_workers_wake() {
        for threads in [2, 8] {
            let mut team = team(threads);
            for pause in [0, 50, 100, 150, 5_000, 20_000] {
                thread::sleep(Duration::from_micros(pause));
                // Each of two chunks ends after both have begun, so a worker has to come.
                let begun = AtomicUsize::new(0);
                let mut own = owns(&team);
                team.share(&mut [(); 2], 1, &mut own, |_, _, _| {
                    begun.fetch_add(1, Relaxed);
                    while begun.load(Relaxed) < 2 {
                        thread::yield_now();
                    }
                });
                check(&mut team, 100, 3);
            }
        }
    }

    #[test]
    fn one_chunk_stays_with_the_caller() {
        let caller = thread::current().id();
        for (threads, size) in [(1, 1), (3, 5)] {
            let mut team = team(threads);
            let mut own = vec![0; threads];
            team.share(&mut [0; 5], size, &mut own, |_, _, own| {
                assert_eq!(thread::current().id(), caller);
                *own += 1;
            });
            assert_eq!(own[0], 5 / size);
        }
    }

    #[test]
    fn a_panic_is_passed_on() {
        for threads in [1, 2, 8] {
            let mut team = team(threads);
            for bad in [0, 1, 19] {
                let mut own = owns(&team);
                let share = AssertUnwindSafe(|| {
                    team.share(&mut [0; 20], 1, &mut own, |part, _, _| assert!(part != bad, "bad"));
                });
                let payload = catch_unwind(share).expect_err("a panic");
                assert_eq!(payload.downcast_ref(), Some(&"bad"));
                check(&mut team, 100, 7);
            }
            let mut own = owns(&team);
            let share =
                AssertUnwindSafe(|| team.share(&mut [0; 20], 1, &mut own, |_, _, _| panic!()));
            assert!(catch_unwind(share).is_err());
            check(&mut team, 100, 7);
        }
    }

    #[test]
    fn a_panic_of_a_worker_is_passed_on() {
        let mut team = team(2);
        let caller = thread::current().id();
        let come = AtomicBool::new(false);
        let share = AssertUnwindSafe(|| {
            team.share(&mut [0; 2], 1, &mut [(); 2], |_, _, ()| {
                if thread::current().id() != caller {
                    come.store(true, Relaxed);
                    panic!("worker");
                }
                while !come.load(Relaxed) {
                    thread::yield_now();
                }
            });
        });
        assert!(catch_unwind(share).is_err());
        check(&mut team, 100, 7);
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let mut team = team(2);
        let mut refused = |size, own: &mut [()]| {
            let share = AssertUnwindSafe(|| team.share(&mut [0; 3], size, own, |_, _, ()| ()));
            catch_unwind(share).is_err()
        };
        assert!(refused(0, &mut [(); 2]) && refused(1, &mut [()]) && !refused(1, &mut [(); 3]));
    }

    #[test]
    fn new_teams_end() {
        for threads in [1, 2, 3, 8] {
            for _ in 0..if cfg!(miri) { 3 } else { 50 } {
                drop(team(threads));
            }
        }
    }

    #[test]
    fn two_teams_at_once() {
        const LENS: usize = if cfg!(miri) { 20 } else { 500 };
        let teams = [2, 3].map(|threads| {
            let mut team = team(threads);
            thread::spawn(move || (1..LENS).for_each(|len| check(&mut team, len, 1 + len % 9)))
        });
        for thread in teams {
            thread.join().expect("no panic");
        }
    }
}
