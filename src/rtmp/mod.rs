mod amf;
mod chunk;
mod handshake;
