//! Which items of a window stay where they are, so that as few as possible are told to move.

/// For each item of the new order, where it stood before (`None`: it is new): whether it can stay.
/// Those that stay are a longest run of rising places.
pub(crate) fn unmoved(places: &[Option<usize>]) -> Vec<bool> {
    // The item that ends the lowest-ending run of each length, and each item's predecessor.
    let mut ends: Vec<(usize, usize)> = Vec::new();
    let mut before: Vec<Option<usize>> = vec![None; places.len()];
    for (at, place) in places.iter().enumerate() {
        let Some(place) = *place else { continue };
        let longer = ends.partition_point(|(other, _)| *other < place);
        let previous = longer.checked_sub(1).and_then(|shorter| ends.get(shorter));
        if let Some(own) = before.get_mut(at) {
            *own = previous.map(|(_, item)| *item);
        }
        match ends.get_mut(longer) {
            Some(end) => *end = (place, at),
            None => ends.push((place, at)),
        }
    }
    let mut stays = vec![false; places.len()];
    let mut next = ends.last().map(|(_, item)| *item);
    while let Some(at) = next {
        if let Some(own) = stays.get_mut(at) {
            *own = true;
        }
        next = before.get(at).copied().flatten();
    }
    stays
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_possible_stay() {
        let stays =
            |places: &[Option<usize>]| unmoved(places).iter().filter(|stays| **stays).count();
        assert_eq!(stays(&[Some(0), Some(1), Some(2)]), 3);
        assert_eq!(stays(&[Some(2), Some(0), Some(1)]), 2);
        assert_eq!(stays(&[Some(2), None, Some(1), Some(0)]), 1);
        assert_eq!(stays(&[None, None]), 0);
        assert_eq!(stays(&[]), 0);
        assert_eq!(unmoved(&[Some(1), None, Some(2), Some(0)]), [true, false, true, false]);
    }
}
