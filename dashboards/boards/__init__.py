"""The boards, a file each: a function board() that returns a Board. `gigawatch dashboards build` finds them."""
