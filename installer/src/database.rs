//! What the one-shot Job does from inside the cluster: Harbor's user gets its schema, and the way to PostgreSQL is proved.
