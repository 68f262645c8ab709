//! The admission service: one decision per request.
