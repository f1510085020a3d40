"""A small data set in Pascal VOC's layout without a fault."""

from planted_coco import HEIGHT, WIDTH, save_image


def write_voc(root):
    """Two images to learn from, one to measure on."""
    lists = dict(train=['a', 'b'], val=['c'], trainval=['a', 'b', 'c'])
    (root / 'ImageSets/Main').mkdir(parents=True)
    (root / 'Annotations').mkdir()
    for split, names in lists.items():
        (root / f'ImageSets/Main/{split}.txt').write_text('\n'.join(names))
    for seed, name in enumerate('abc'):
        save_image(root / f'JPEGImages/{name}.jpg', seed)
        objects = ''.join(
            f'<object><name>{label}</name><bndbox><xmin>{x}</xmin><ymin>3</ymin>'
            f'<xmax>{x + 9}</xmax><ymax>12</ymax></bndbox></object>'
            for label, x in (('cat', 1), ('dog', 30))
        )
        (root / f'Annotations/{name}.xml').write_text(
            f'<annotation><filename>{name}.jpg</filename><size><width>{WIDTH}</width>'
            f'<height>{HEIGHT}</height></size>{objects}</annotation>'
        )
