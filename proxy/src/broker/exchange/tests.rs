//! Tables of what is sent and what comes back.
