"""A small COCO instances file, which tests break: two images of 40 x 30, two classes."""

BOXES = (  # image, category, box, crowd
    (7, 3, [0, 0, 40, 30], 0),
    (7, 5, [5, 5, 9, 9], 0),
    (9, 3, [1.5, 2.5, 8, 8], 0),
)


def small_coco(boxes=BOXES):
    images = [
        dict(id=i, file_name=f'{n}.png', width=40, height=30) for n, i in dict(a=7, b=9).items()
    ]
    annotations = [
        dict(id=n, image_id=i, category_id=c, bbox=[*box], area=box[2] * box[3], iscrowd=crowd)
        for n, (i, c, box, crowd) in enumerate(boxes, 1)
    ]
    categories = [dict(id=3, name='cat'), dict(id=5, name='dog')]
    return dict(images=images, annotations=annotations, categories=categories)
