use super::{Buffer, InPlace, Plan, Random, plan};

/// Buffers from (size, first step, last step).
fn buffers(list: &[(usize, usize, usize)]) -> Vec<Buffer> {
    list.iter().map(|&(size, first, last)| Buffer { size, first, last }).collect()
}

/// Permissions from (argument, result).
fn pairs(list: &[(usize, usize)]) -> Vec<InPlace> {
    list.iter().map(|&(argument, result)| InPlace { argument, result }).collect()
}

/// Whether two buffers may lie at these offsets: the rule in other words than the planner's.
fn may_lie(b: &[Buffer], p: &[InPlace], (i, x): (usize, usize), (j, y): (usize, usize)) -> bool {
    let permitted = p.iter().any(|p| {
        let handed_over = b[p.argument].last == b[p.result].first;
        handed_over && ([p.argument, p.result] == [i, j] || [p.argument, p.result] == [j, i])
    });
    let steps = b[i].last.min(b[j].last) + 1;
    let together = (b[i].first.max(b[j].first)..steps).count();
    let bytes = (x.max(y)..(x + b[i].size).min(y + b[j].size)).count();
    together == 0 || bytes == 0 || (permitted && x == y)
}

/// Checks a plan in both ways, by the independent rule and by its own `check`.
fn valid(plan: &Plan, b: &[Buffer], p: &[InPlace], align: usize) -> bool {
    let at = |i: usize| (i, plan.offsets[i]);
    let apart = (0..b.len()).all(|i| (0..i).all(|j| may_lie(b, p, at(i), at(j))));
    let inside = (0..b.len()).all(|i| at(i).1 + b[i].size <= plan.size && at(i).1 % align == 0);
    let ok = apart && inside && plan.offsets.len() == b.len() && plan.bound <= plan.size;
    assert_eq!(plan.check(b, p, align).is_ok(), ok, "{plan:?}");
    ok
}

/// Plans with alignment 1, checks, and gives (size, bound).
fn sizes(list: &[(usize, usize, usize)], in_place: &[(usize, usize)]) -> (usize, usize) {
    let (b, p) = (buffers(list), pairs(in_place));
    let plan = plan(&b, &p, 1);
    assert!(valid(&plan, &b, &p, 1), "{plan:?}");
    (plan.size, plan.bound)
}

/// Whether the buffers fit into an arena, by trying all offsets.
fn fits(b: &[Buffer], p: &[InPlace], arena: usize, placed: &mut Vec<usize>) -> bool {
    let i = placed.len();
    i == b.len()
        || (0..=arena).take_while(|at| at + b[i].size <= arena).any(|at| {
            let free = (0..i).all(|j| may_lie(b, p, (i, at), (j, placed[j])));
            free && {
                placed.push(at);
                let all = fits(b, p, arena, placed);
                placed.pop();
                all
            }
        })
}

#[test]
fn nothing_and_empty_buffers() {
    assert_eq!(plan(&[], &[], 4), Plan { offsets: vec![], size: 0, bound: 0 });
    assert_eq!(sizes(&[(0, 0, 3), (0, 1, 2)], &[(0, 1)]), (0, 0));
    assert_eq!(sizes(&[(5, 0, 3), (0, 1, 2), (3, 3, 3), (0, 3, 4)], &[(0, 3)]), (8, 8));
}

#[test]
fn chains() {
    assert_eq!(sizes(&[(7, 0, 0)], &[]), (7, 7));
    // Largest first fails: 10, 8 at 0, 7 on 8, and 6 has no place below 15.
    assert_eq!(sizes(&[(10, 0, 1), (6, 1, 2), (7, 2, 3), (8, 3, 4)], &[]), (16, 16));
    // In order of time fails: 1 at 0, 2 on it, 14 on both.
    assert_eq!(sizes(&[(1, 0, 1), (2, 1, 2), (14, 2, 3)], &[]), (16, 16));
    // All in place; then all but one.
    let list = [(8, 0, 1), (8, 1, 2), (4, 2, 3), (4, 3, 4)];
    assert_eq!(sizes(&list, &[(0, 1), (1, 2), (2, 3)]), (8, 8));
    assert_eq!(sizes(&list, &[(0, 1), (2, 3)]), (12, 12));
    assert_eq!(sizes(&list, &[]), (16, 16));
    // With scratch at step 2.
    assert_eq!(sizes(&[(8, 0, 1), (8, 1, 2), (4, 2, 3), (3, 2, 2)], &[(0, 1)]), (15, 15));
}

#[test]
fn random_chains_reach_the_bound() {
    for seed in 1..=200 {
        let mut random = Random(seed);
        let n = 2 + random.below(60);
        let list: Vec<_> = (0..n).map(|i| (1 + random.below(500), i, i + 1)).collect();
        let (size, bound) = sizes(&list, &[]);
        assert_eq!(size, bound, "seed {seed}");
        // Some steps keep the size and work in place, as activation functions do.
        let (mut list, mut p) = (list, vec![]);
        for i in (1..n).filter(|_| random.below(2) == 0).collect::<Vec<_>>() {
            list[i].0 = list[i - 1].0;
            p.push((i - 1, i));
        }
        let (size, bound) = sizes(&list, &p);
        assert_eq!(size, bound, "seed {seed}, in place");
    }
}

/// Where results in place are smaller, no plan may reach the bound, even in a chain: 14 is full at
/// steps 1, 3 and 5. 10 and 5 do not fit side by side, nor do 9 and 8, so both pairs begin at one
/// offset. 4 and 10 fill the arena, and so do 5 and 9: 10 and 5 lie at 0, and 9 and 8 at 5. Then
/// nowhere are 6 bytes left.
#[test]
fn a_chain_above_the_bound() {
    let list = [(4, 0, 1), (10, 1, 2), (5, 2, 3), (9, 3, 4), (8, 4, 5), (6, 5, 6)];
    assert_eq!(sizes(&list, &[(1, 2), (3, 4)]), (15, 14));
    assert!(!fits(&buffers(&list), &pairs(&[(1, 2), (3, 4)]), 14, &mut vec![]));
}

#[test]
fn residual_block() {
    // x, conv, conv, add, conv
    let list = [(8, 0, 3), (4, 1, 2), (8, 2, 3), (8, 3, 4), (2, 4, 5)];
    assert_eq!(sizes(&list, &[]), (24, 24)); // x, second conv, sum
    assert_eq!(sizes(&list, &[(0, 3)]), (20, 20)); // x, both convs
    assert_eq!(sizes(&list, &[(2, 3)]), (20, 20));
    assert_eq!(sizes(&list, &[(0, 3), (2, 3)]), (20, 20));
}

#[test]
fn residual_networks_reach_the_bound() {
    for relu_in_place in [false, true] {
        for add_in_place in [false, true] {
            let (mut list, mut p) = (vec![(12, 0, 1)], vec![]);
            let sizes_of_stages = [64, 64, 32, 32, 16, 16, 8, 8];
            for size in sizes_of_stages {
                let (x, t) = (list.len() - 1, list[list.len() - 1].1 + 1);
                // conv, relu, conv, (conv of the shortcut,) add, relu
                let mut shortcut = x;
                list[x].2 = t;
                list.extend([(size, t, t + 1), (size, t + 1, t + 2), (size, t + 2, t + 4)]);
                if list[x].0 == size {
                    list[x].2 = t + 4;
                } else {
                    list[x].2 = t + 3;
                    list.push((size, t + 3, t + 4));
                    shortcut = x + 4;
                }
                let sum = list.len();
                list.extend([(size, t + 4, t + 5), (size, t + 5, t + 6)]);
                if relu_in_place {
                    p.extend([(x + 1, x + 2), (sum, sum + 1)]);
                }
                if add_in_place {
                    p.extend([(x + 3, sum), (shortcut, sum)]);
                }
            }
            // The second conv of the second block: x, its argument and its result.
            assert_eq!(sizes(&list, &p), (192, 192));
        }
    }
}

#[test]
fn inverted_residual_blocks_reach_the_bound() {
    // x, expand to 6 x, depthwise, project, add: 16 + 96 + 96 at the depthwise step, unless it
    // works in place; then 16 + 96 + 16 at the projection.
    let list = [(16, 0, 4), (96, 1, 2), (96, 2, 3), (16, 3, 4), (16, 4, 5)];
    assert_eq!(sizes(&list, &[]), (208, 208));
    assert_eq!(sizes(&list, &[(0, 4), (3, 4)]), (208, 208));
    assert_eq!(sizes(&list, &[(1, 2), (0, 4), (3, 4)]), (128, 128));
    // Without the shortcut and with a depthwise stride of 2.
    assert_eq!(sizes(&[(16, 0, 1), (96, 1, 2), (24, 2, 3), (8, 3, 4)], &[]), (120, 120));

    // As in MobileNetV2: (width, blocks, resolution) at 32 x 32.
    let stages = [(24, 2, 16), (32, 3, 8), (64, 4, 4), (96, 3, 4), (160, 3, 2), (320, 1, 2)];
    let (mut list, mut adds) = (vec![(16 * 32 * 32, 0, 1)], vec![]);
    let (mut width, mut side, mut x, mut t) = (16, 32, 0, 0);
    for (out, blocks, out_side) in stages {
        for _ in 0..blocks {
            list[x].2 = t + 1;
            list.push((6 * width * side * side, t + 1, t + 2));
            list.push((6 * width * out_side * out_side, t + 2, t + 3));
            list.push((out * out_side * out_side, t + 3, t + 4));
            let project = list.len() - 1;
            if (width, side) == (out, out_side) {
                list[x].2 = t + 4;
                list.push((out * out_side * out_side, t + 4, t + 5));
                adds.extend([(x, project + 1), (project, project + 1)]);
            }
            (width, side, x) = (out, out_side, list.len() - 1);
            t = list[x].1;
        }
    }
    let largest = 6 * 16 * 32 * 32 + 6 * 16 * 16 * 16; // the first depthwise step
    assert_eq!(sizes(&list, &[]), (largest, largest));
    assert_eq!(sizes(&list, &adds), (largest, largest));
}

#[test]
fn concat_blocks_reach_the_bound() {
    // Inception: x, four branches (two with a bottleneck), concat.
    let list =
        [(20, 0, 6), (8, 1, 7), (4, 2, 3), (6, 3, 7), (3, 4, 5), (5, 5, 7), (7, 6, 7), (26, 7, 8)];
    assert_eq!(sizes(&list, &[]), (52, 52));
    // DenseNet: each layer reads a concat of everything before; concat 4 bytes longer each time.
    let mut list = vec![(8, 0, 2)];
    for i in 0..10 {
        list.push((4, 2 * i + 1, 2 * i + 2)); // conv
        list.push((8 + 4 * (i + 1), 2 * i + 2, 2 * i + 4)); // concat
    }
    assert_eq!(sizes(&list, &[]), (44 + 4 + 48, 44 + 4 + 48));
    // The concat may lie over what it begins with, and grows.
    let grow: Vec<_> = (0..10).map(|i| (2 * i, 2 * i + 2)).collect();
    assert_eq!(sizes(&list, &grow), (52, 52));
}

#[test]
fn permissions() {
    // A result larger than its argument.
    assert_eq!(sizes(&[(4, 0, 1), (8, 1, 2)], &[(0, 1)]), (8, 8));
    // An argument that is read again later: the permission does not count.
    assert_eq!(sizes(&[(4, 0, 2), (4, 1, 2)], &[(0, 1)]), (8, 8));
    // Of two arguments the larger one; it is the one that saves more.
    assert_eq!(sizes(&[(4, 0, 1), (9, 0, 1), (9, 1, 2)], &[(0, 2), (1, 2)]), (13, 13));
    // Two results of one step: only one of them may have the argument's place.
    assert_eq!(sizes(&[(8, 0, 1), (4, 1, 2), (4, 1, 2)], &[(0, 1), (0, 2)]), (12, 12));
    // At step 5 either 0 and 1 share a place (and nobody else: 9), or 0 and 3 as
    // well as 1 and 2. The search leaves the first for the second only in one go.
    let list = [(4, 5, 5), (4, 5, 5), (3, 5, 5), (2, 3, 5), (5, 3, 4)];
    assert_eq!(sizes(&list, &[(1, 0), (2, 1), (3, 0)]), (8, 7));
    // A buffer with itself.
    assert_eq!(sizes(&[(8, 0, 0)], &[(0, 0)]), (8, 8));
}

/// `a` and `b` may be joined, but then there is no arena of size 4.
///
/// Step 0 is full, so `a` lies at 0 or at 2, say at 2. At step 1 `l` meets `a` and lies at 0 or 1.
/// At step 4 `d` lies at 0 or 2, since step 5 is full. Were `b` at 2 as well, `d` would have to be
/// at 0, and `l` at 3, in `a`. With `b` at 1, `l` is at 0 and `d` at 2.
#[test]
fn joining_can_hurt() {
    //   a          b          c          l          d          e
    let list = [(2, 0, 2), (1, 2, 4), (2, 0, 0), (1, 1, 4), (2, 4, 5), (2, 5, 5)];
    assert_eq!(sizes(&list, &[(0, 1)]), (4, 4));
    let (b, p) = (buffers(&list), pairs(&[(0, 1)]));
    assert_ne!(plan(&b, &p, 1).offsets[0], plan(&b, &p, 1).offsets[1]);
    assert!((0..=2).all(|at| !fits(&b, &p, 4, &mut vec![at, at])));
    assert!((0..=3).any(|at| fits(&b, &p, 5, &mut vec![at, at])));
}

#[test]
fn alignment() {
    let b = buffers(&[(5, 0, 1), (3, 0, 1), (1, 1, 1)]);
    for (align, size) in [(1, 9), (4, 16), (16, 48)] {
        let plan = plan(&b, &[], align);
        assert!(valid(&plan, &b, &[], align));
        assert_eq!((plan.size, plan.bound), (size, size));
    }
}

#[test]
#[should_panic(expected = "not a power of two")]
fn alignment_must_be_a_power_of_two() {
    plan(&[], &[], 12);
}

#[test]
fn check_finds_faults() {
    let (b, p) = (buffers(&[(8, 0, 1), (8, 1, 2), (8, 2, 3)]), pairs(&[(0, 1)]));
    let good = plan(&b, &p, 4);
    assert_eq!(good.check(&b, &p, 4), Ok(()));
    let fault = |offsets: &[usize], size| {
        Plan { offsets: offsets.to_vec(), size, bound: 16 }.check(&b, &p, 4).unwrap_err()
    };
    assert!(fault(&[0, 0], 16).contains("2 offsets for 3"));
    assert!(fault(&[0, 8, 2], 16).contains("aligned"));
    assert!(fault(&[0, 0, 12], 16).contains("out of the arena"));
    assert!(fault(&[0, 4, 12], 20).contains("buffers 0 and 1"));
    assert!(fault(&[0, 0, 0], 16).contains("buffers 1 and 2"));
    let joined = Plan { offsets: vec![0, 0, 8], size: 16, bound: 16 };
    assert_eq!(joined.check(&b, &p, 4), Ok(()));
    assert!(joined.check(&b, &[], 4).unwrap_err().contains("buffers 0 and 1"));
}

type Case = (Vec<Buffer>, Vec<InPlace>);

/// Any buffers and any permissions that could count.
fn any(random: &mut Random, n: usize, steps: usize, life: usize, size: usize) -> Case {
    let list: Vec<_> = (0..n)
        .map(|_| {
            let first = random.below(steps);
            (random.below(size), first, (first + random.below(life)).min(steps - 1))
        })
        .collect();
    let b = buffers(&list);
    let mut p = vec![];
    for (argument, result) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
        if b[argument].last == b[result].first && random.below(3) == 0 {
            p.push(InPlace { argument, result });
        }
    }
    (b, p)
}

/// A network: each step reads the newest tensor and perhaps one of the `reach` newest, and may
/// have scratch memory.
fn network(random: &mut Random, n: usize, reach: usize) -> Case {
    let (mut list, mut p) = (vec![(1 + random.below(1000), 0, 0)], vec![]);
    let mut tensors = vec![0];
    for step in 1.. {
        if list.len() >= n {
            break;
        }
        let newest = tensors[tensors.len() - 1];
        let other = tensors[tensors.len() - 1 - random.below(reach.min(tensors.len()))];
        let same = random.below(2) == 0;
        let result = list.len();
        list.push((if same { list[newest].0 } else { 1 + random.below(1000) }, step, step));
        for argument in [newest, if random.below(3) == 0 { other } else { newest }] {
            list[argument].2 = step;
            if same {
                p.push((argument, result));
            }
        }
        tensors.push(result);
        if random.below(4) == 0 {
            list.push((1 + random.below(500), step, step));
        }
    }
    (buffers(&list), pairs(&p))
}

#[test]
fn small_instances_are_optimal() {
    let mut below = 0;
    for seed in 1..=400 {
        let mut random = Random(seed * 0x9e37_79b9);
        let n = 3 + random.below(4);
        let (b, p) = any(&mut random, n, 6, 4, 6);
        let plan = plan(&b, &p, 1);
        assert!(valid(&plan, &b, &p, 1), "seed {seed}: {b:?} {p:?} {plan:?}");
        let smaller = plan.size > plan.bound && fits(&b, &p, plan.size - 1, &mut vec![]);
        assert!(!smaller, "seed {seed}: {b:?} {p:?} {plan:?}");
        // The bound itself is right, and not only never reached.
        assert!(plan.bound == 0 || !fits(&b, &p, plan.bound - 1, &mut vec![]), "seed {seed}");
        below += usize::from(plan.size > plan.bound);
    }
    println!("{below} of 400 optima are above the bound");
}

#[test]
fn random_instances_are_valid() {
    for seed in 1..=200 {
        let mut random = Random(seed * 0x9e37_79b9);
        let n = 1 + random.below(25);
        let steps = 1 + random.below(30);
        let life = 1 + random.below(10);
        let align = 1 << random.below(5);
        let (b, p) = any(&mut random, n, steps, life, 100);
        let plan = plan(&b, &p, align);
        println!("seed {seed}: {n} buffers, {} of at least {} bytes", plan.size, plan.bound);
        assert!(valid(&plan, &b, &p, align), "seed {seed}");
    }
}

#[test]
fn random_networks_come_close_to_the_bound() {
    for (n, reach, percent) in [(50, 4, 0), (200, 4, 3), (50, 20, 5), (200, 50, 12)] {
        for seed in 1..=10 {
            let (b, p) = network(&mut Random(seed * 0x9e37_79b9), n, reach);
            let plan = plan(&b, &p, 4);
            println!("{n} buffers, reach {reach}, seed {seed}: {} {}", plan.size, plan.bound);
            assert!(valid(&plan, &b, &p, 4), "seed {seed}");
            assert!(plan.size * 100 <= plan.bound * (100 + percent), "seed {seed}");
        }
    }
}

#[test]
fn large_instances_and_determinism() {
    let (b, p) = network(&mut Random(7), 1000, 30);
    let first = plan(&b, &p, 16);
    assert!(valid(&first, &b, &p, 16));
    assert_eq!(plan(&b, &p, 16), first);

    // A thousand steps in place, beside a buffer that lives throughout: one block.
    let mut random = Random(7);
    let mut list: Vec<_> = (0..1000).map(|i| (1 + random.below(1000), i, i + 1)).collect();
    list.push((1, 0, 1000));
    let all: Vec<_> = (1..1000).map(|i| (i - 1, i)).collect();
    let (size, bound) = sizes(&list, &all);
    assert_eq!(size, bound);
}
