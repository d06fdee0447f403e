"""All of Simherd on one machine: what `simherd up` starts and watches over."""
