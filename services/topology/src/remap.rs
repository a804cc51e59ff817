//! Keys of a source as they are kept here, under a prefix of this node.

use bytes::Bytes;
use trellis_engine_traits::{Error, ErrorKind, Result};
use trellis_tree::{DEPTH_MAX, PATH_BYTES_MAX};

/// A key behind a prefix, without a check.
pub(crate) fn prefixed(prefix: &Bytes, key: &Bytes) -> Bytes {
    match (prefix.is_empty(), key.is_empty()) {
        (true, _) => key.clone(),
        (_, true) => prefix.clone(),
        _ => [prefix, &[0][..], key].concat().into(),
    }
}

/// The key under which a source's key is kept below a prefix.
///
/// # Errors
/// `TooLarge` when that is no path any more: too long or too deep.
///
/// ```
/// use bytes::Bytes;
/// use trellis_topology::remapped;
///
/// let local = remapped(&Bytes::from_static(b"ext"), &Bytes::from_static(b"catalog\0a"))?;
/// assert_eq!(local.as_ref(), b"ext\0catalog\0a");
/// # Ok::<(), trellis_engine_traits::Error>(())
/// ```
pub fn remapped(prefix: &Bytes, key: &Bytes) -> Result<Bytes> {
    let local = prefixed(prefix, key);
    let over = |limit: &'static str, value: usize| {
        let message = "a path of the source is no path here, behind its localPrefix: shorten that \
                       or exclude the path";
        Err(Error::new(ErrorKind::TooLarge, message).operation("remap").context(limit, value))
    };
    if local.len() > PATH_BYTES_MAX {
        return over("path_bytes_max", PATH_BYTES_MAX);
    }
    if local.split(|byte| *byte == 0).count() > DEPTH_MAX {
        return over("depth_max", DEPTH_MAX);
    }
    Ok(local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_grows_beyond_a_path_is_refused() {
        let prefix = Bytes::from_static(b"ext");
        let fits = Bytes::from(vec![b'a'; PATH_BYTES_MAX - 4]);
        assert_eq!(remapped(&prefix, &fits).unwrap().len(), PATH_BYTES_MAX);
        let long = Bytes::from(vec![b'a'; PATH_BYTES_MAX - 3]);
        assert_eq!(remapped(&prefix, &long).unwrap_err().kind(), ErrorKind::TooLarge);
        let deep = Bytes::from(vec!["a"; DEPTH_MAX].join("\0"));
        assert_eq!(remapped(&prefix, &deep).unwrap_err().kind(), ErrorKind::TooLarge);
        assert_eq!(remapped(&Bytes::new(), &deep).unwrap(), deep);
        assert_eq!(remapped(&prefix, &Bytes::new()).unwrap(), prefix);
    }
}
