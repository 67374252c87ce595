//! What leaves and enters in whose words: dialects, masking, the leak check.
