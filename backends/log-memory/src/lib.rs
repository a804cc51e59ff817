//! A stream log in memory: the strictest implementation of StreamLog.
