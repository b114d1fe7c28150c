"""What flows through Gigawatch: metrics, hardware, frames and topics. Pure: stdlib, numpy and pyarrow only."""
