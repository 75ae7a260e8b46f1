//! What is wrong, and its cure.
