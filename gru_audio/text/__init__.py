"""Text on the host: tokens, edit operations, language models and the decoding of CTC."""
