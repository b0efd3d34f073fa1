"""Real flowers as shards: two species in flowers/, and a third in more/, to be appended later."""

from pathlib import Path

from sklearn.datasets import load_iris

iris = load_iris()
rows = [
    ",".join([*map(str, lengths), iris.target_names[kind]])
    for lengths, kind in zip(iris.data, iris.target, strict=True)
]
shards = {
    "flowers/1.csv": rows[50:90] + rows[100:140],
    "flowers/eval/1.csv": rows[90:100] + rows[140:150],
    "more/2.csv": rows[0:40],
    "more/eval/2.csv": rows[40:50],
}
for name, lines in shards.items():
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
