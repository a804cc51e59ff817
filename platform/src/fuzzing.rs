//! A configuration out of any text.
//!
//! Not part of the stable interface: public only so that the fuzz targets need no file for each
//! input.

use trellis_engine_traits::Result;
use trellis_tree::TreeOptions;

use crate::config::Config;
use crate::engine_url::EngineUrl;
use crate::options::tree_options;

/// Reads a configuration, its engine URLs and its path prefixes.
///
/// # Errors
/// As for [`crate::ConfigBuilder::load`], and `InvalidInput` for a URL or a prefix.
pub fn configuration(
    text: &str,
    is_json: bool,
    variables: &[(String, String)],
) -> Result<(Config, TreeOptions)> {
    let builder = Config::builder().text(text, is_json);
    let config = builder.variables(variables.iter().cloned()).load()?;
    for (key, url) in [("kv", config.kv_url()), ("log", config.log_url())] {
        EngineUrl::parse(key, url)?;
    }
    let options = tree_options(&config, None)?;
    Ok((config, options))
}
