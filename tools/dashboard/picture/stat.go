package picture

// stat is one number, large, on the colour that it has; several are beside each other.
func (d drawing) stat() {
	all := d.series()
	width := d.width / float64(len(all))
	for i, series := range all {
		word, on := shown(series.Last(), d.panel.FieldConfig.Defaults)
		x := width * float64(i)
		d.rect(rect{x: x, width: width, height: d.height, fill: on.fill, hint: series.name})
		d.text(text{x: x + width/2, y: (d.height+titled)/2 + 8, size: 24, bold: true, anchor: "middle", fill: on.ink, what: word, width: width})
		if i == 0 {
			d.title(on.ink)
		}
	}
}

// bars are numbers, one below the other, each as long as it is large.
func (d drawing) bars() {
	const names, values, row = 70, 70, 32
	all := d.series()
	most := 0.0
	for _, series := range all {
		most = max(most, series.Last())
	}
	for i, series := range all {
		word, on := shown(series.Last(), d.panel.FieldConfig.Defaults)
		y := titled + 8 + row*float64(i)
		length := 0.0
		if most > 0 {
			length = max(0, series.Last()/most) * (d.width - names - values - 16)
		}
		d.text(text{x: 8 + names - 6, y: y + 14, anchor: "end", what: series.name, width: names - 6})
		d.rect(rect{x: 8 + names, y: y, width: max(length, 1), height: 20, fill: on.fill})
		d.text(text{x: 8 + names + length + 6, y: y + 14, what: word, width: values})
	}
}
