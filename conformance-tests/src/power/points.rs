//! How many images are drawn, and at which operations.

use std::time::Instant;

use crate::{Rng, Seed};

/// Images of one life at most.
const IMAGES_OF_A_LIFE: usize = 48;

/// The images that a case may still draw.
#[derive(Debug)]
pub(super) struct Budget {
    images: usize,
    drawn: usize,
    lives: usize,
    operations: usize,
    began: Instant,
}

impl Budget {
    /// As many images as `TRELLIS_IMAGES` says, else `usual`.
    ///
    /// # Panics
    /// When `TRELLIS_IMAGES` is no number above 0.
    pub(super) fn new(usual: usize) -> Self {
        let images = match std::env::var("TRELLIS_IMAGES") {
            Ok(text) => text.trim().parse().ok().filter(|images| *images > 0),
            Err(_) => Some(usual),
        };
        Self::of(images.expect("TRELLIS_IMAGES is a number above 0"))
    }

    /// As many images as this.
    pub(super) fn of(images: usize) -> Self {
        Self { images, drawn: 0, lives: 0, operations: 0, began: Instant::now() }
    }

    pub(super) const fn left(&self) -> bool {
        self.drawn < self.images
    }

    /// Operations of one life at which the power goes, ascending: a third of them while the
    /// engine was opened.
    pub(super) fn points(
        &mut self,
        began: usize,
        opened: usize,
        all: usize,
        rng: &mut Rng,
    ) -> Vec<usize> {
        self.lives += 1;
        self.operations += all - began;
        let count = IMAGES_OF_A_LIFE.min(self.images - self.drawn.min(self.images));
        self.drawn += count;
        let mut draw = |number: usize| match number % 3 {
            0 => began + rng.below(opened - began + 1),
            _ => began + rng.below(all - began + 1),
        };
        let mut points: Vec<_> = (0..count).map(&mut draw).collect();
        points.sort_unstable();
        points
    }

    /// Says what was done.
    pub(super) fn tell(&self, what: &str, seed: Seed) {
        let Self { drawn, lives, operations, began, .. } = self;
        let seconds = began.elapsed().as_secs_f64();
        eprintln!(
            "{what}: {drawn} images of {lives} lives with {operations} operations, none wrong, \
             {seconds:.1} s, TRELLIS_SEED={}",
            seed.0
        );
    }
}

/// A generator of its own, so that what one part draws does not depend on another.
pub(super) fn fork(rng: &mut Rng) -> Rng {
    Seed(rng.next_u64()).rng()
}
