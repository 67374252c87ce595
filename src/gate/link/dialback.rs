//! Dialback keys (XEP-0185) and their check.
