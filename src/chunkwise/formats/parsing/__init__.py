"""What the formats share to read and write bytes: lines, JSON texts and values, UTF-8, records."""
