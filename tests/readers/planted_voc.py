"""A small dataset in Pascal VOC's layout without a fault, and faults to plant into it."""

import re
from xml.etree import ElementTree

from planted_coco import HEIGHT, WIDTH, Written, save_image


class Voc(Written):
    """Two images to learn from, one to measure on; two classes; two boxes per image."""

    def __init__(self, root):
        self.root = root
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

    def change(self, name, path, text):
        file = self.root / f'Annotations/{name}.xml'
        tree = ElementTree.parse(file)
        tree.find(path).text = text
        tree.write(file)

    def shout(self, name):
        file = self.root / f'Annotations/{name}.xml'
        file.write_text(re.sub(r'<(/?)(\w)', lambda m: f'<{m[1]}{m[2].upper()}', file.read_text()))

    def drop(self, name, number):
        file = self.root / f'Annotations/{name}.xml'
        tree = ElementTree.parse(file)
        for element in tree.findall('object')[number:]:
            tree.getroot().remove(element)
        tree.write(file)

    def list(self, split, text):
        (self.root / f'ImageSets/Main/{split}.txt').write_text(text)


PLANTS = {
    'clean': (lambda voc: None, {}),
    'no XML file': (
        lambda voc: (voc.root / 'Annotations/b.xml').unlink(), {('train', 'missing-annotation'): 1}
    ),
    'truncated XML file': (
        lambda voc: (voc.root / 'Annotations/b.xml').write_text('<annotation><obj'),
        {('train', 'corrupt-xml'): 1},
    ),
    'web page in place of XML': (
        lambda voc: (voc.root / 'Annotations/b.xml').write_text('<html></html>'),
        {('train', 'corrupt-xml'): 1},
    ),
    'object without a box': (
        lambda voc: (voc.root / 'Annotations/b.xml').write_text(
            '<annotation><object><name>cat</name></object></annotation>'),
        {('train', 'bad-object'): 1},
    ),
    'no image': (
        lambda voc: (voc.root / 'JPEGImages/c.jpg').unlink(), {('val', 'missing-image'): 1}
    ),
    'web page': (
        lambda voc: (voc.root / 'JPEGImages/c.jpg').write_text('<html>'),
        {('val', 'undecodable-image'): 1},
    ),
    'listed twice': (lambda voc: voc.list('train', 'a\nb\na\n'), {('train', 'repeated-row'): 1}),
    'out of the folder': (lambda voc: voc.list('train', 'a\nb\n../a'), {('train', 'bad-row'): 1}),
    'paths and endings in a list': (
        lambda voc: voc.list('train', '/x/JPEGImages/a.jpg\nb.jpg\n'), {('train', 'filled-in'): 1}
    ),
    'elements in capitals': (lambda voc: voc.shout('c'), {}),
    'in both lists': (lambda voc: voc.list('val', 'c\na\n'), {('val', 'overlap'): 1}),
    'another size': (
        lambda voc: voc.change('a', 'size/width', '99'), {('train', 'size-differs'): 1}
    ),
    'coordinate in words': (
        lambda voc: voc.change('a', 'object/bndbox/xmin', 'one'), {('train', 'bad-object'): 1}
    ),
    'fractions': (
        lambda voc: [voc.change('c', f'object/bndbox/{k}', f'0.{i}') or voc.drop('c', 1)
                     for i, k in enumerate(('xmin', 'ymin', 'xmax', 'ymax'), 1)],
        {('val', 'relative-boxes'): 1, ('val', 'unused-category'): 1},
    ),
    'no name': (lambda voc: voc.change('a', 'object/name', ' '), {('train', 'bad-object'): 1}),
    'click in place of a box': (
        lambda voc: voc.change('a', 'object/bndbox/xmax', '1'),
        {('train', 'box-without-area'): 1},
    ),
    'over the border': (
        lambda voc: voc.change('a', 'object/bndbox/xmin', '0'),
        {('train', 'box-partly-outside'): 1},
    ),
    'class in no other image': (
        lambda voc: voc.change('c', 'object/name', 'cow'),
        {('train', 'unused-category'): 1, ('val', 'unused-category'): 1},
    ),
}  # fmt: skip
