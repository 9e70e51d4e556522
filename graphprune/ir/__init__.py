"""The only folder that knows protobuf: load, check, normalise and save models."""
