//! Cycles in a graph of indices.

/// Cycles, each as the nodes on it in order, starting with its lowest: at least one for every
/// knot, none that shares a node with another. `edges` has the successors of each node.
pub(super) fn find(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut alive = vec![true; edges.len()];
    let mut cycles = Vec::new();
    loop {
        prune(edges, &mut alive);
        let is_alive = |node: &usize| alive.get(*node).copied().unwrap_or(false);
        let Some(start) = (0..edges.len()).find(is_alive) else { return cycles };
        // Each living node has a living successor, so the walk must come back to its own trail.
        let mut trail = vec![start];
        let cycle = loop {
            let last = trail.last().copied().unwrap_or(start);
            let next = edges.get(last).and_then(|to| to.iter().copied().find(is_alive));
            let Some(next) = next else { return cycles };
            match trail.iter().position(|node| *node == next) {
                Some(first) => break trail.split_off(first),
                None => trail.push(next),
            }
        };
        for node in &cycle {
            if let Some(alive) = alive.get_mut(*node) {
                *alive = false;
            }
        }
        cycles.push(lowest_first(cycle));
    }
}

/// Kills nodes that lead nowhere, until none is left that does.
fn prune(edges: &[Vec<usize>], alive: &mut [bool]) {
    let mut incoming = vec![Vec::new(); edges.len()];
    let mut outgoing = vec![0_usize; edges.len()];
    for (from, targets) in edges.iter().enumerate() {
        for to in targets {
            let lives = |node: usize| alive.get(node).copied().unwrap_or(false);
            if lives(from)
                && lives(*to)
                && let (Some(sources), Some(count)) =
                    (incoming.get_mut(*to), outgoing.get_mut(from))
            {
                sources.push(from);
                *count += 1;
            }
        }
    }
    let mut ends: Vec<usize> = (0..edges.len())
        .filter(|node| alive.get(*node) == Some(&true) && outgoing.get(*node) == Some(&0))
        .collect();
    while let Some(end) = ends.pop() {
        if let Some(alive) = alive.get_mut(end) {
            *alive = false;
        }
        for source in incoming.get(end).into_iter().flatten() {
            if let Some(count) = outgoing.get_mut(*source) {
                *count -= 1;
                if *count == 0 {
                    ends.push(*source);
                }
            }
        }
    }
}

fn lowest_first(mut cycle: Vec<usize>) -> Vec<usize> {
    let lowest = cycle.iter().enumerate().min_by_key(|(_, node)| **node).map(|(at, _)| at);
    cycle.rotate_left(lowest.unwrap_or_default());
    cycle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_knot_is_found_and_what_only_leads_to_one_is_not() {
        assert_eq!(find(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(find(&[vec![1, 2], vec![2], vec![]]), Vec::<Vec<usize>>::new());
        assert_eq!(find(&[vec![0]]), [[0]]);
        // 0 leads into 1 -> 2 -> 3 -> 1; 4 and 5 are another knot.
        let edges = [vec![3], vec![2], vec![3], vec![1], vec![5], vec![4, 1]];
        assert_eq!(find(&edges), [vec![1, 2, 3], vec![4, 5]]);
    }
}
