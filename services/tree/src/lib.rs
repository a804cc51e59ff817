//! The JSON path tree and its commit pipeline.
